"""Checking the log, read in order: every commit follows from the one before it (CONTRACT §6, §7).

For each aggregate: `prev` is the SHA-256 of the message before it and `prev_seq` that message's place, the events can
follow the state before them, and the state after them is the one the commit carries. For the stream: no sequence is
missing, and every message lies on its subject, which an aggregate's first commit names. What is no commit is named and
stepped over (`events.grammar`): the chains go past it. `Verifier` is pure: no I/O, no clock.

The newest commit of an aggregate is chained to by nobody yet, so of that one only what its state repeats is certain.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from events import client, family, key, role, rules, subject, tenant
from events.commit import VERSION, UnreadableCommit
from events.grammar import Foreign, belongs_on, foreign, kind_of, read_commit
from events.stored import Stored
from events.subjects import STREAM


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


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
RECENT = 10_000
"""Of so many aggregates the last state is kept as it was decoded, at 1 to 2 kB each."""


_Checked = tuple[Any, bytes, datetime]
"""The state after a commit, its encoding, and the commit's time."""
Fold = Callable[[Any, tuple[Any, ...], datetime], tuple[Any, str | None]]
"""The state after a commit's events, and which rule they break, if one."""


class _Kind:
    """How to check one kind of aggregate."""

    def __init__(self, event: Any, state: Any, fold: Fold) -> None:
        fields = [("v", int), ("id", str), ("at", datetime), ("actor", str), ("prev", str | None), ("prev_seq", int)]
        fields += [("events", tuple[event, ...]), ("state", msgspec.Raw)]
        last = ("aggregate", str | None, None)
        commit = msgspec.defstruct("Commit", [*fields, last], gc=False, omit_defaults=True)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(commit).decode
        self.decode_state: Callable[[bytes], Any] = msgspec.json.Decoder(state).decode
        self.fold = fold


def _folding(evolve: Callable[[Any, Any], Any]) -> Fold:
    def fold(state: Any, events: tuple[Any, ...], _at: datetime) -> tuple[Any, str | None]:
        for event in events:
            state = evolve(state, event)
        return state, None

    return fold


FAMILY = _Kind(family.FamilyEvent, family.FamilyState, rules.follow)
KINDS: dict[str, _Kind] = {
    "family": FAMILY,
    "tenant": _Kind(tenant.TenantEvent, tenant.TenantState, _folding(tenant.evolve)),
    "client": _Kind(client.ClientEvent, client.ClientState, _folding(client.evolve)),
    "key": _Kind(key.KeyEvent, key.KeyState, _folding(key.evolve)),
    "role": _Kind(role.RoleEvent, role.RoleState, _folding(role.evolve)),
    "subject": _Kind(subject.SubjectEvent, subject.SubjectState, _folding(subject.evolve)),
}
"""By the third part of the subject."""

_encode = msgspec.json.Encoder().encode


class _BadCommit(Exception):
    """This very commit is bad."""


class _Astray(_BadCommit):
    """It follows another message than the aggregate's last commit: that one."""

    def __init__(self, followed: int, last: int) -> None:
        super().__init__(f"it follows sequence {followed}, the aggregate's last commit is at {last}")
        self.followed = followed


class _BrokenChain(Exception):
    """The commit before this one is not the one it was chained to."""


class _Last(msgspec.Struct, gc=False):
    """An aggregate's last commit: its sequence, its digest in hex, and the state it left with its encoding, None and no
    bytes where that is nothing that can be known."""

    kind: _Kind
    seq: int
    digest: str
    state: Any
    encoded: bytes
    at: datetime | None

    def remembered(self) -> bytes:
        at = 0 if self.at is None else (self.at - _EPOCH) // _MICROSECOND
        return self.seq.to_bytes(8) + bytes.fromhex(self.digest) + at.to_bytes(8, signed=True) + self.encoded


def _recalled(kind: _Kind, remembered: bytes) -> _Last | None:
    if not remembered:
        return None
    encoded, at = remembered[48:], int.from_bytes(remembered[40:48], signed=True)
    state = kind.decode_state(encoded) if encoded else None
    seq, digest = int.from_bytes(remembered[:8]), remembered[8:40].hex()
    return _Last(kind, seq, digest, state, encoded, _EPOCH + at * _MICROSECOND if at else None)


class Verifier:
    """Feed it the whole log in order with `check`; `report` says what it found so far.

    What `remembered` holds of an aggregate is one byte string: the last commit's sequence (8 bytes), digest (32), time
    (8, microseconds since 1970) and state; no bytes for an aggregate it does not know. It lags behind until it is told
    to `remember`. With the `tally` of another verification it goes on where that one was.
    """

    def __init__(
        self,
        remembered: MutableMapping[str, bytes] | None = None,
        tally: Tally = Tally(),  # noqa: B008  # copied
    ) -> None:
        self.tally = msgspec.structs.replace(tally, faults=dict(tally.faults), foreign=dict(tally.foreign))
        self._remembered = defaultdict(bytes) if remembered is None else remembered
        self._recent: dict[str, _Last] = {}

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
            kind = KINDS[found.name]
            aggregate = aggregate if kind is FAMILY else place
            before = self._recent.get(aggregate) or _recalled(kind, self._remembered[aggregate])
        if kind is not FAMILY and self._is_foreign(stored):
            return
        state, encoded, at = None, b"", None
        try:
            state, encoded, at = _check(kind, aggregate, body, before, last_part)
        except _BadCommit as bad:
            if self._is_foreign(stored):
                return
            if isinstance(bad, _Astray) and bad.followed in tally.foreign:
                self._unmask(aggregate, bad.followed, seq)
            else:
                self._blame(aggregate, Fault(seq, str(bad)))
        except _BrokenChain:
            self._accuse(aggregate, before.seq if before else 0, seq)
        if before is None:
            tally.aggregates += 1
            tally.families += kind is FAMILY
        self._recent[aggregate] = _Last(kind, seq, hashlib.sha256(body).hexdigest(), state, encoded, at)
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


def _check(kind: _Kind, aggregate: str, body: bytes, before: _Last | None, last_part: str) -> _Checked:
    """The next commit of an aggregate; `before` is the one before it, if there is one."""
    try:
        commit = kind.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _BadCommit(f"unreadable: {error}") from error
    if not commit.events:
        raise _BadCommit("it holds no events")
    if commit.v != VERSION:
        raise _BadCommit(f"commit version {commit.v}, this program reads version {VERSION}")
    if commit.aggregate is not None and commit.aggregate != aggregate:
        raise _BadCommit(f"it is of {commit.aggregate}, and lies on {aggregate}")
    expected_seq, digest, state = (before.seq, before.digest, before.state) if before else (0, None, None)
    if commit.prev_seq != expected_seq:
        raise _Astray(commit.prev_seq, expected_seq)
    try:
        folded, why = kind.fold(state, commit.events, commit.at)
    except (ValueError, TypeError) as error:
        raise _BadCommit(f"its events cannot follow: {error}") from error
    written = bytes(commit.state)
    commit.state = folded
    is_as_we_write = _encode(commit) == body
    if not is_as_we_write and not _means(kind, written, folded):
        raise _BadCommit("its state is not what its events make of the state before")
    if commit.prev != digest:
        raise _BrokenChain
    if kind is FAMILY and last_part != belongs_on(commit.events):
        raise _BadCommit(f"its events do not belong on …{last_part}")
    if why is None and before is not None and before.at is not None:
        why = rules.time_goes_on(before.at, commit.at)
    if why is not None:
        raise _BadCommit(why)
    if not is_as_we_write and _has_a_key_twice(body):
        raise _BadCommit("it holds a JSON key twice, and readers differ on which one counts")
    return folded, written if is_as_we_write else _encode(folded), commit.at


def _has_a_key_twice(body: bytes) -> bool:
    """Asked of a commit that is not written as this version writes it."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found |= len({key for key, _ in pairs}) != len(pairs)

    json.loads(body, object_pairs_hook=look)
    return found


def _means(kind: _Kind, written: bytes, folded: Any) -> bool:
    """Whether a state written otherwise, by another version perhaps, says the same."""
    try:
        return bool(kind.decode_state(written) == folded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
