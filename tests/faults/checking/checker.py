"""Rules for a history and the log it left (CONTRACT §3): pure, and linear in both.

`check` reads the history once, in the order of beginnings and ends, and keeps for each family what every observer
must know by then. Overlapping operations may have happened in either order.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.faults.checking.log_checker import Violation, log_violations
from tests.faults.checking.log_index import LogIndex
from tests.faults.history import Operation, in_order


class _Known:
    """What is certain about a family at a moment of the history."""

    def __init__(self) -> None:
        self.ended = False
        self.endangered = False
        """A request that may end the family has been sent."""
        self.revoking = False
        self.seq = 0
        """The sequence of the newest commit that a reply was based on."""
        self.accepted = -1
        """The newest generation whose presentation got a successor."""
        self.acceptors: dict[int, str | None] = {}
        self.successors: dict[int, str | None] = {}
        self.presented: dict[int, str | None] = {}
        self.without_their_key: set[int] = set()
        """The generations that somebody has presented without a key that redeemed them."""
        self.unanswered: Counter[int] = Counter()

    def present(self, operation: Operation, *, is_harmless: bool) -> None:
        """Record before a presentation whether the service may take it for a theft."""
        generation, key = operation.generation, operation.key
        again = generation in self.presented and (key is None or self.presented[generation] != key)
        older = any(other > generation for other in self.presented)
        # a presentation without a reply may arrive after this one, and then be the older one
        overtaken = any(other < generation and count for other, count in self.unanswered.items())
        self.endangered |= overtaken or generation in self.without_their_key
        self.presented.setdefault(generation, key)
        if not is_harmless:
            self.endangered |= again or older
            self.without_their_key.add(generation)
            self.unanswered[generation] += 1

    def may_refuse(self, operation: Operation, *, is_harmless: bool) -> bool:
        """Whether a presentation may have been refused: the family may have ended, or it was a late duplicate."""
        return self.endangered or (is_harmless and any(other > operation.generation for other in self.presented))


class _Before(NamedTuple):
    """What was certain when an operation began."""

    ended: bool
    accepted: int
    seq: int


def check(operations: Sequence[Operation], log: LogIndex) -> list[Violation]:
    """All violations, in the order of the history, then those of the log."""
    return _Sweep(log).run(operations) + log_violations(operations, log)


class _Sweep:
    def __init__(self, log: LogIndex) -> None:
        self._log = log
        self._families: dict[str, _Known] = {}
        self._before: dict[int, _Before] = {}
        self._violations: list[Violation] = []

    def run(self, operations: Sequence[Operation]) -> list[Violation]:
        for operation, ended in in_order(operations):
            if operation.kind == "issue":
                if ended and operation.outcome == "ok":
                    self._committed(operation, _Known(), _Before(False, -1, 0))
                continue
            family = self._families.setdefault(operation.family, _Known())
            if not ended:
                self._begin(operation, family)
            else:
                self._end(operation, family, self._before.pop(operation.id))
        return self._violations

    def _begin(self, operation: Operation, family: _Known) -> None:
        self._before[operation.id] = _Before(family.ended, family.accepted, family.seq)
        if operation.kind == "refresh":
            family.present(operation, is_harmless=self._log.is_harmless(operation))
        elif operation.kind == "revoke":
            family.endangered = family.revoking = True

    def _end(self, operation: Operation, family: _Known, before: _Before) -> None:
        match operation.kind, operation.outcome:
            case "refresh", "ok":
                self._accepted(operation, family, before)
            case "refresh", "fail":
                self._require(operation.error == "invalid_grant", f"an unexpected error: {operation.error}", operation)
                is_harmless = self._log.is_harmless(operation)
                may = family.may_refuse(operation, is_harmless=is_harmless)
                self._require(may, "a good token is accepted", operation)
                family.ended |= not is_harmless
            case "revoke", "ok":
                family.ended = True
            case "introspect", "ok":
                self._introspected(operation, family, before)
            case "witness", "ok":
                self._witnessed(operation, family, before)
            case _:
                self._require(False, f"an unexpected error: {operation.error}", operation)
        if operation.kind == "refresh" and not self._log.is_harmless(operation):
            family.unanswered[operation.generation] -= 1

    def _accepted(self, operation: Operation, family: _Known, before: _Before) -> None:
        generation, key = operation.generation, operation.key
        self._require(not before.ended, "no request after the acknowledged end is accepted", operation)
        self._require(operation.to == generation + 1, "generations are contiguous", operation)
        self._require(before.accepted <= generation, "a reuse is denied", operation)
        first = family.successors.setdefault(generation, operation.successor)
        self._require(first == operation.successor, "a generation has one successor", operation)
        if generation in family.acceptors and not operation.grace:
            same = key is not None and family.acceptors[generation] == key
            self._require(same, "a reuse is denied", operation)
        family.acceptors.setdefault(generation, key)
        family.accepted = max(family.accepted, generation)
        self._committed(operation, family, before)

    def _committed(self, operation: Operation, family: _Known, before: _Before) -> None:
        """The reply's commit must be in the log once, and not before the newest one known when the request began."""
        sequences = self._log.sequences.get(operation.commit or "", ())
        self._require(len(sequences) > 0, "an acknowledged commit is in the log", operation)
        self._require(len(sequences) < 2, "an acknowledged commit is in the log once", operation)
        if sequences:
            self._require(sequences[0] >= before.seq, "sequences follow real time", operation)
            family.seq = max(family.seq, sequences[0])

    def _introspected(self, operation: Operation, family: _Known, before: _Before) -> None:
        generation = operation.generation
        if operation.active:
            self._require(not before.ended, "no token is active after the acknowledged end", operation)
            self._require(before.accepted < generation, "a generation is not active once it has a successor", operation)
        else:
            unharmed = not family.endangered and generation not in family.presented
            self._require(not unharmed, "a good token is active", operation)

    def _witnessed(self, operation: Operation, family: _Known, before: _Before) -> None:
        if before.ended:
            self._require(bool(operation.revoked), "the end is in the log before it is acknowledged", operation)
        self._require(operation.to > before.accepted, "a rotation is in the log before it is acknowledged", operation)

    def _require(self, holds: bool, rule: str, operation: Operation) -> None:
        if not holds:
            where = (
                f"operation {operation.id}: {operation.why} of generation {operation.generation} of {operation.family}"
            )
            self._violations.append(Violation(rule, where))
