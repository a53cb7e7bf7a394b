"""Verifies the log, read in order: every commit follows from the one before it (CONTRACT §6, §7).

For each aggregate, each commit must follow from the one before it (`events.verification.chain`). In the stream, no
sequence may be missing, and every commit must be on its subject, which the aggregate's first commit names. Foreign
messages are reported and skipped (`events.log.grammar`). `Verifier` is pure: no I/O, no clock.

No later commit is chained to the newest one of an aggregate, so only the part that its state repeats is certain there.
"""

from collections import defaultdict
from collections.abc import MutableMapping
from typing import NamedTuple

import msgspec

from events.aggregates.aggregate_names import STREAM
from events.aggregates.commit import UnreadableCommit, digest
from events.aggregates.kinds import FAMILY
from events.log.grammar import Foreign, foreign, kind_of, read_commit
from events.log.stored_message import StoredMessage
from events.verification.chain import BadCommit, BrokenChain, LastCommit, WrongPredecessor, check, decode_last


class Fault(NamedTuple):
    """A bad message at `seq`, and the reason. `accuser` is the later commit that proves it, if there is one."""

    seq: int
    why: str
    accuser: int = 0
    stream: str = STREAM


class Report(NamedTuple):
    """The findings. `commits` counts those `messages` of the log that are not foreign.

    `fault` is the first bad commit; `faulty` counts aggregates with bad commits, up to `MAX_KEPT`.
    `checkpoints` were compared with the log; the newest that agrees covers it up to the sequence `covered`.
    `foreign_count` messages are neither commits nor checkpoints; `foreign` are the first `MAX_KEPT` of them.
    """

    messages: int
    commits: int
    aggregates: int
    families: int
    faulty: int
    fault: Fault | None
    checkpoints: int = 0
    covered: int = 0
    foreign_count: int = 0
    foreign: tuple[Foreign, ...] = ()


class Tally(msgspec.Struct):
    """The counts of a verification; `faults` are by aggregate, those of the stream itself under the empty name.

    `foreign` are by sequence, at most `MAX_KEPT` of the foreign messages, whose number is `foreign_count`.
    """

    messages: int = msgspec.field(default=0, name="commits")  # the name in files of interrupted verifications
    seq: int = 0
    aggregates: int = 0
    families: int = 0
    faults: dict[str, Fault] = {}
    foreign_count: int = msgspec.field(default=0, name="strangers")  # as above
    foreign: dict[int, Foreign] = {}


MAX_KEPT = 1000
"""Faults are kept for so many aggregates; later, only a fault that precedes all kept ones."""
MAX_RECENT = 10_000
"""For how many aggregates the decoded last state is kept, at 1 to 2 kB each."""


class Verifier:
    """Receives the whole log in order by `check`; `report` returns the findings so far.

    `remembered` maps an aggregate to the last commit's sequence (8 bytes), digest (32), time (JSON, then a line feed)
    and state, or to `b""`. It is complete after `remember`. With the `tally` of another verification, this one goes on
    where that one stopped.
    """

    def __init__(
        self,
        remembered: MutableMapping[str, bytes] | None = None,
        tally: Tally = Tally(),  # noqa: B008  # copied
    ) -> None:
        self.tally = msgspec.structs.replace(tally, faults=dict(tally.faults), foreign=dict(tally.foreign))
        self._remembered = defaultdict(bytes) if remembered is None else remembered
        self._recent: dict[str, LastCommit] = {}

    def check(self, stored: StoredMessage) -> None:
        """Check the next message of the stream."""
        seq, place, body = stored.seq, stored.subject, stored.body
        tally = self.tally
        tally.messages += 1
        if seq != tally.seq + 1:
            self._blame("", Fault(tally.seq + 1, f"missing; the stream goes on at {seq}"))
        tally.seq = seq
        aggregate, _, last_part = place.rpartition(".")
        before = self._recent.get(aggregate)
        if before is not None and before.kind is FAMILY:
            kind = FAMILY  # the common case: nothing else about the subject needs checking
        elif (found := kind_of(place)) is None:
            self._add_foreign(foreign(stored, "no aggregate lies on this subject"))
            return
        else:
            kind = found
            aggregate = aggregate if kind is FAMILY else place
            before = self._recent.get(aggregate) or decode_last(kind, self._remembered[aggregate])
        if kind is not FAMILY and self._skip_if_foreign(stored):
            return
        state, at = None, None
        try:
            state, at = check(kind, aggregate, body, before, last_part)
        except (BadCommit, BrokenChain) as bad:
            if self._skip_if_foreign(stored):
                return
            if isinstance(bad, BrokenChain):
                state, at = bad.checked
                self._accuse(aggregate, bad.accused, seq)
            elif isinstance(bad, WrongPredecessor) and bad.followed in tally.foreign:
                self._unmask(aggregate, bad.followed, seq)
            else:
                self._blame(aggregate, Fault(seq, str(bad)))
        if before is None:
            tally.aggregates += 1
            tally.families += kind is FAMILY
        self._recent[aggregate] = LastCommit(kind, seq, digest(body), state, at)
        if len(self._recent) > MAX_RECENT:
            self.remember()

    def remember(self) -> None:
        """Write all recent states to `remembered`."""
        self._remembered.update((aggregate, last.encoded()) for aggregate, last in self._recent.items())
        self._recent.clear()

    def report(self) -> Report:
        """Return the findings so far."""
        tally = self.tally
        fault, found = min(tally.faults.values(), default=None), tuple(tally.foreign.values())
        commits = tally.messages - tally.foreign_count
        report = Report(tally.messages, commits, tally.aggregates, tally.families, len(tally.faults), fault)
        return report._replace(foreign_count=tally.foreign_count, foreign=found)

    def _skip_if_foreign(self, stored: StoredMessage) -> bool:
        """Skip the message if it is foreign; returns whether it is. A commit of a later version is not."""
        try:
            found = read_commit(stored)
        except UnreadableCommit:
            return False
        if isinstance(found, Foreign):
            self._add_foreign(found)
        return isinstance(found, Foreign)

    def _add_foreign(self, found: Foreign) -> None:
        self.tally.foreign_count += 1
        if len(self.tally.foreign) < MAX_KEPT:
            self.tally.foreign[found.seq] = found

    def _unmask(self, aggregate: str, accused: int, accuser: int) -> None:
        """Report a foreign message as an altered commit, since another commit follows it."""
        self.tally.foreign_count -= 1
        reason = self.tally.foreign.pop(accused).reason
        why = f"altered: commit {accuser} was chained to another body than this: {reason}"
        self._blame(aggregate, Fault(accused, why, accuser))

    def _accuse(self, aggregate: str, accused: int, accuser: int) -> None:
        earlier = self.tally.faults.pop(aggregate, None)
        # a commit that accused the one before, and is now accused itself, is the altered one
        if earlier is None or earlier.accuser == accused:
            why = f"altered: commit {accuser} was chained to another body than this"
            earlier = Fault(accused, why, accuser)
        self._blame(aggregate, earlier)

    def _blame(self, aggregate: str, fault: Fault) -> None:
        faults = self.tally.faults
        if len(faults) < MAX_KEPT or fault < min(faults.values()):
            faults.setdefault(aggregate, fault)
