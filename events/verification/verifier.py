"""Checking the log, read in order: every commit follows from the one before it (CONTRACT §6, §7).

For each aggregate, each commit follows from the one before it (`events.verification.chain`). For the stream: no
sequence is missing, and every message lies on its subject, which an aggregate's first commit names. What is no commit
is named and stepped over (`events.log.grammar`): the chains go past it. `Verifier` is pure: no I/O, no clock.

The newest commit of an aggregate is chained to by nobody yet, so of that one only what its state repeats is certain.
"""

import hashlib
from collections import defaultdict
from collections.abc import MutableMapping
from typing import NamedTuple

import msgspec

from events.aggregates.commit import UnreadableCommit
from events.aggregates.kinds import FAMILY
from events.aggregates.subjects import STREAM
from events.log.grammar import Foreign, foreign, kind_of, read_commit
from events.log.stored_commit import Stored
from events.verification.chain import Astray, BadCommit, BrokenChain, Last, check, recalled


class Fault(NamedTuple):
    """The message at `seq` is bad, and why. `accuser` is the commit that says so, if it is another one."""

    seq: int
    why: str
    accuser: int = 0
    stream: str = STREAM


class Report(NamedTuple):
    """What was checked. `fault` is the first bad commit; `faulty` counts the aggregates that hold one, up to `MANY`.

    `checkpoints` were held against the log; the newest that agrees with it covers it up to the sequence `covered`.
    `strangers` messages are no commits and no checkpoints; `foreign` are the first `MANY` of them.
    """

    commits: int
    aggregates: int
    families: int
    faulty: int
    fault: Fault | None
    checkpoints: int = 0
    covered: int = 0
    strangers: int = 0
    foreign: tuple[Foreign, ...] = ()


class Tally(msgspec.Struct):
    """How far a verification has come; `faults` are by aggregate, the stream's own under the empty name.

    `foreign` are by their sequence, up to `MANY` of `strangers`.
    """

    commits: int = 0
    seq: int = 0
    aggregates: int = 0
    families: int = 0
    faults: dict[str, Fault] = {}
    strangers: int = 0
    foreign: dict[int, Foreign] = {}


MANY = 1000
"""Of so many aggregates faults are kept; beyond that, only one that lies before all the others."""
RECENT = 10_000
"""Of so many aggregates the last state is kept as it was decoded, at 1 to 2 kB each."""


class Verifier:
    """Feed it the whole log in order with `check`; `report` says what it found so far.

    What `remembered` holds of an aggregate is one byte string: the last commit's sequence (8 bytes), digest (32), time
    (JSON, then a line feed) and state; no bytes for an aggregate it does not know. It lags behind until it is told to
    `remember`. With the `tally` of another verification it goes on where that one was.
    """

    def __init__(
        self,
        remembered: MutableMapping[str, bytes] | None = None,
        tally: Tally = Tally(),  # noqa: B008  # copied
    ) -> None:
        self.tally = msgspec.structs.replace(tally, faults=dict(tally.faults), foreign=dict(tally.foreign))
        self._remembered = defaultdict(bytes) if remembered is None else remembered
        self._recent: dict[str, Last] = {}

    def check(self, stored: Stored) -> None:
        """The next message of the stream."""
        seq, place, body = stored.seq, stored.subject, stored.body
        tally = self.tally
        tally.commits += 1
        if seq != tally.seq + 1:
            self._blame("", Fault(tally.seq + 1, f"missing; the stream goes on at {seq}"))
        tally.seq = seq
        aggregate, _, last_part = place.rpartition(".")
        before = self._recent.get(aggregate)
        if before is not None and before.kind is FAMILY:
            kind = FAMILY  # as of most commits: nothing more need be asked of the subject
        elif (found := kind_of(place)) is None:
            self._step_over(foreign(stored, "no aggregate lies on this subject"))
            return
        else:
            kind = found
            aggregate = aggregate if kind is FAMILY else place
            before = self._recent.get(aggregate) or recalled(kind, self._remembered[aggregate])
        if kind is not FAMILY and self._is_foreign(stored):
            return
        state, at = None, None
        try:
            state, at = check(kind, aggregate, body, before, last_part)
        except (BadCommit, BrokenChain) as bad:
            if self._is_foreign(stored):
                return
            if isinstance(bad, BrokenChain):
                state, at = bad.checked
                self._accuse(aggregate, bad.accused, seq)
            elif isinstance(bad, Astray) and bad.followed in tally.foreign:
                self._unmask(aggregate, bad.followed, seq)
            else:
                self._blame(aggregate, Fault(seq, str(bad)))
        if before is None:
            tally.aggregates += 1
            tally.families += kind is FAMILY
        self._recent[aggregate] = Last(kind, seq, hashlib.sha256(body).hexdigest(), state, at)
        if len(self._recent) > RECENT:
            self.remember()

    def remember(self) -> None:
        """Have `remembered` hold everything."""
        self._remembered.update((aggregate, last.remembered()) for aggregate, last in self._recent.items())
        self._recent.clear()

    def report(self) -> Report:
        """So far."""
        tally = self.tally
        fault, found = min(tally.faults.values(), default=None), tuple(tally.foreign.values())
        report = Report(tally.commits, tally.aggregates, tally.families, len(tally.faults), fault)
        return report._replace(strangers=tally.strangers, foreign=found)

    def _is_foreign(self, stored: Stored) -> bool:
        """Whether it is no commit at all, and stepped over. One of a later version is none that can be checked."""
        try:
            found = read_commit(stored)
        except UnreadableCommit:
            return False
        if isinstance(found, Foreign):
            self._step_over(found)
        return isinstance(found, Foreign)

    def _step_over(self, found: Foreign) -> None:
        self.tally.strangers += 1
        if len(self.tally.foreign) < MANY:
            self.tally.foreign[found.seq] = found

    def _unmask(self, aggregate: str, accused: int, accuser: int) -> None:
        """What looked foreign was a commit once: another one follows it."""
        self.tally.strangers -= 1
        reason = self.tally.foreign.pop(accused).reason
        why = f"altered: commit {accuser} was chained to another body than this: {reason}"
        self._blame(aggregate, Fault(accused, why, accuser))

    def _accuse(self, aggregate: str, accused: int, accuser: int) -> None:
        earlier = self.tally.faults.pop(aggregate, None)
        # who accused the one before, and is now accused itself, is the one that was altered
        if earlier is None or earlier.accuser == accused:
            why = f"altered: commit {accuser} was chained to another body than this"
            earlier = Fault(accused, why, accuser)
        self._blame(aggregate, earlier)

    def _blame(self, aggregate: str, fault: Fault) -> None:
        faults = self.tally.faults
        if len(faults) < MANY or fault < min(faults.values()):
            faults.setdefault(aggregate, fault)
