"""The checker itself: a good history has no violation, and every broken promise has a name."""

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from events.log.stored_message import StoredMessage
from service.keys.mac_tokens import short_digest
from tests.faults.checking.checker import check
from tests.faults.checking.log_checker import copies_differ
from tests.faults.checking.log_index import Family, LogIndex, index
from tests.faults.history import NEVER, Kind, Operation, Outcome
from tests.projections.logs import LogMaker


class Past:
    """A history of one operation a second: each begins after the end of the one before, unless `began` is given."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._now = 0.0

    def add(
        self, kind: Kind, generation: int = -1, outcome: Outcome = "ok", *, began: float | None = None, **more: object
    ) -> None:
        """Add an operation on the family `f`."""
        self._now += 1
        ended = NEVER if outcome == "info" else self._now + 0.5
        operation = Operation(
            len(self.operations) + 1, kind, self._now if began is None else began, ended, outcome, family="f"
        )
        operation.generation = generation
        for name, value in more.items():
            setattr(operation, name, value)
        self.operations.append(operation)

    def issue(self) -> None:
        self.add("issue", to=0, commit="c0", successor="t0")

    def refresh(self, generation: int, **more: object) -> None:
        """Add an accepted refresh with the right reply."""
        answer = {"to": generation + 1, "commit": f"c{generation + 1}", "successor": f"t{generation + 1}"}
        self.add("refresh", generation, **(answer | more))  # type: ignore[arg-type]

    def refused(self, generation: int, **more: object) -> None:
        self.add("refresh", generation, "fail", error="invalid_grant", **more)  # type: ignore[arg-type]


def log_of(rotations: int, reason: str | None = None) -> LogIndex:
    """The log's index after a family `f` was opened, rotated that many times, and ended for that reason."""
    log = LogIndex({}, {"c0": [1]}, [])
    family = log.families.setdefault("f", Family())
    for generation in range(rotations):
        family.rotations.append((generation, f"c{generation + 1}"))
        log.sequences[f"c{generation + 1}"] = [generation + 2]
    family.generation, family.reason = rotations, reason
    return log


def rules(past: Past, log: LogIndex) -> list[str]:
    """The broken rules."""
    return [violation.rule for violation in check(past.operations, log)]


def test_a_good_history_has_no_violation() -> None:
    """Rotated, retried with its key, introspected, stolen, ended."""
    past = Past()
    past.issue()
    past.refresh(0)
    past.refresh(1, key="k")
    past.add("introspect", 2, active=True)
    past.refresh(1, key="k")
    past.add("witness", to=2, seq=3, revoked=False)
    past.refused(0)
    past.add("introspect", 2, active=False)
    past.refused(2)
    past.add("witness", to=2, seq=4, revoked=True)
    assert rules(past, log_of(2, "reuse_detected")) == []


def test_an_unknown_outcome_may_have_happened_or_not() -> None:
    """Of a refresh and a revocation without a reply the log may hold either, and later replies may show it."""
    for log in (log_of(0), log_of(1), log_of(1, "client_request")):
        past = Past()
        past.issue()
        past.add("refresh", 0, "info")
        past.add("revoke", 0, "info")
        past.add("introspect", 0, active=log.families["f"].generation == 0)
        assert rules(past, log) == []


def test_a_delayed_request_may_end_its_family() -> None:
    """The first attempt arrives after its own retry was answered and used: the service detects a reuse."""
    past = Past()
    past.issue()
    past.add("refresh", 0, "info", key="k")
    past.refresh(0, key="k")
    past.refresh(1)
    past.refused(2)
    assert rules(past, log_of(2, "reuse_detected")) == []


def with_keys(log: LogIndex, **keys: int) -> LogIndex:
    """The same log, in which these keys redeemed these generations."""
    log.families["f"].keys |= {(generation, short_digest(key.encode())) for key, generation in keys.items()}
    return log


def test_a_late_duplicate_ends_nothing() -> None:
    """It is refused, whenever it arrives, and a good token is accepted afterwards."""
    past = Past()
    past.issue()
    past.add("refresh", 0, "info", key="k")
    past.refresh(0, key="k")
    past.refresh(1, key="l")
    past.refused(0, key="k")
    past.refresh(2)
    assert rules(past, with_keys(log_of(3), k=0, l=1)) == []
    assert "no request after the acknowledged end is accepted" in rules(past, with_keys(log_of(3), other=0, l=1))


def test_a_late_duplicate_beside_a_theft() -> None:
    """Whoever presents the token without its key may end the family, whichever of the two comes first."""
    for outcome in ("fail", "info"):
        past = Past()
        past.issue()
        past.add("refresh", 0, outcome, error="invalid_grant")
        past.refresh(0, key="k", began=past.operations[-1].began)
        past.refused(1)
        assert rules(past, with_keys(log_of(1, "reuse_detected"), k=0)) == []


def _late_and_ended(past: Past) -> None:
    past.refresh(0, key="k")
    past.refresh(1)
    past.refused(0, key="k")
    past.refused(2)


def _two_successors(past: Past) -> None:
    past.refresh(0, key="k")
    past.refresh(0, key="k", successor="another")


def _old_one_accepted(past: Past) -> None:
    past.refresh(0)
    past.refresh(1)
    past.refresh(0)


def _accepted_twice(past: Past) -> None:
    past.refresh(0, key="k")
    past.refresh(0, key="another")


def _skipped(past: Past) -> None:
    past.refresh(0, to=2)


def _accepted_after_the_end(past: Past) -> None:
    past.add("revoke", 0)
    past.refresh(0)


def _accepted_after_a_denial(past: Past) -> None:
    past.refresh(0)
    past.refused(0)
    past.refresh(1)


def _active_after_the_end(past: Past) -> None:
    past.add("revoke", 0)
    past.add("introspect", 0, active=True)


def _active_after_its_successor(past: Past) -> None:
    past.refresh(0)
    past.add("introspect", 0, active=True)


def _inactive(past: Past) -> None:
    past.refresh(0)
    past.add("introspect", 1, active=False)


def _denied(past: Past) -> None:
    past.refresh(0)
    past.refused(1)


def _told_too_early(past: Past) -> None:
    past.add("revoke", 0)
    past.add("witness", to=0, seq=1, revoked=False)


def _rotation_told_too_early(past: Past) -> None:
    past.refresh(0)
    past.add("witness", to=0, seq=1, revoked=False)


def _lost(past: Past) -> None:
    past.refresh(0, commit="lost")


def _backwards(past: Past) -> None:
    past.refresh(0)
    past.refresh(1)
    past.operations[-1].commit = "c0"


@pytest.mark.parametrize(
    ("harm", "log", "rule"),
    [
        (_two_successors, log_of(1), "a generation has one successor"),
        (_old_one_accepted, log_of(2), "a reuse is denied"),
        (_accepted_twice, log_of(1), "a reuse is denied"),
        (_skipped, log_of(1), "generations are contiguous"),
        (
            _accepted_after_the_end,
            log_of(1, "client_request"),
            "no request after the acknowledged end is accepted",
        ),
        (
            _accepted_after_a_denial,
            log_of(2, "reuse_detected"),
            "no request after the acknowledged end is accepted",
        ),
        (_active_after_the_end, log_of(0, "client_request"), "no token is active after the acknowledged end"),
        (_active_after_its_successor, log_of(1), "a generation is not active once it has a successor"),
        (_inactive, log_of(1), "a good token is active"),
        (_denied, log_of(1, "reuse_detected"), "a good token is accepted"),
        (_told_too_early, log_of(0, "client_request"), "the end is in the log before it is acknowledged"),
        (_rotation_told_too_early, log_of(1), "a rotation is in the log before it is acknowledged"),
        (_lost, log_of(1), "an acknowledged commit is in the log"),
        (_backwards, log_of(2), "sequences follow real time"),
        (lambda past: past.add("revoke", 0), log_of(0), "an acknowledged end is in the log"),
        (lambda past: past.refused(0), log_of(0), "an acknowledged end is in the log"),
        (lambda past: past.add("introspect", 0, "fail"), log_of(0), "an unexpected error: None"),
        (lambda _: None, log_of(1), "a failed request is not in the log"),
        (lambda _: None, log_of(0, "client_request"), "no family ends unasked"),
        (lambda past: past.refresh(0), log_of(1, "reuse_detected"), "no family ends unasked"),
        (_late_and_ended, with_keys(log_of(2, "reuse_detected"), k=0), "a good token is accepted"),
        (_late_and_ended, with_keys(log_of(2, "reuse_detected"), k=0), "no family ends unasked"),
        (lambda past: past.refused(0, key="k"), with_keys(log_of(1), k=0), "a good token is accepted"),
        (lambda past: past.operations.clear(), log_of(0), "a failed request is not in the log"),
    ],
)
def test_every_broken_promise_is_named(harm: Callable[[Past], None], log: LogIndex, rule: str) -> None:
    """Each history differs from a good one in one respect."""
    past = Past()
    past.issue()
    harm(past)
    assert rule in rules(past, log)


def test_concurrent_operations_may_have_either_order() -> None:
    """Those that began before the end was acknowledged may still see the family alive."""
    past = Past()
    past.issue()
    past.refresh(0)
    past.add("revoke", 1)
    past.refresh(1, began=2.4)
    past.add("introspect", 1, began=2.4, active=True)
    past.add("witness", began=2.4, to=1, seq=2, revoked=False)
    assert rules(past, log_of(2, "client_request")) == []


def test_the_index_folds_the_log_by_itself() -> None:
    """A good log has no faults; a rotation after the end, a second one of a generation, and a second end are named."""
    good = LogMaker()
    good.open("a")
    good.rotate("a")
    good.reuse("a")
    assert index(good.log).faults == []
    assert index(good.log).families["a"].reason == "reuse_detected"
    rotation, end = good.log[1:]
    assert "generations are contiguous" in _faults([*good.log[:2], rotation])
    assert "a dead family stays dead" in _faults([*good.log, rotation])
    assert "a family ends once" in _faults([*good.log, end])
    late = LogMaker()
    late.open("a")
    late.rotate("a")
    late.rotate("a")
    late.late("a")
    assert _faults(late.log) == ["a late duplicate has the key that redeemed its token"]
    silent = replace(end, body=end.body.replace(b"TokenReuseDetected", b"TokenReuseOverlooked"))
    assert "a reuse and the end it brings are one commit" in _faults([*good.log[:2], silent])


def _faults(log: Sequence[StoredMessage]) -> list[str]:
    return [fault for fault, _ in index(log).faults]


def test_copies_are_compared_message_by_message() -> None:
    """The first place where two nodes differ is named, also where one has fewer messages."""
    assert copies_differ({"a": ["1", "2"], "b": ["1", "2"]}) == []
    (violation,) = copies_differ({"a": ["1", "2", "3"], "b": ["1", "2", "3"], "c": ["1", "x", "3"]})
    assert violation.where.startswith("a and c differ at 2")
    (violation,) = copies_differ({"a": ["1", "2"], "b": ["1"]})
    assert violation.where.startswith("a and b differ at 2")
