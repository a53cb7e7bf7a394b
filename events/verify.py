"""Checking the log, read in order: every commit follows from the one before it (CONTRACT §6, §7).

For each aggregate: `prev` is the SHA-256 of the message before it and `prev_seq` that message's place, the events can
follow the state before them, and the state after them is the one the commit carries. For the stream: no sequence is
missing, and every message lies on its subject, which an aggregate's first commit names. `Verifier` is pure: no I/O, no
clock.

The newest commit of an aggregate is chained to by nobody yet, so of that one only what its state repeats is certain.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, MutableMapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from events import client, family, key, role, subject, tenant
from events.commit import VERSION
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
    """

    commits: int
    aggregates: int
    families: int
    faulty: int
    fault: Fault | None
    checkpoints: int = 0
    covered: int = 0


class Tally(msgspec.Struct):
    """How far a verification has come; `faults` are by aggregate, the stream's own under the empty name."""

    commits: int = 0
    seq: int = 0
    aggregates: int = 0
    families: int = 0
    faults: dict[str, Fault] = {}


MANY = 1000
"""Of so many aggregates faults are kept; beyond that, only one that lies before all the others."""


RECENT = 10_000
"""Of so many aggregates the last state is kept as it was decoded, at 1 to 2 kB each."""


class _Kind:
    """How to check one kind of aggregate. `depth`: how many parts of the subject name it."""

    def __init__(
        self, depth: int, event: Any, state: Any, fold: Callable[[Any, tuple[Any, ...], datetime], Any]
    ) -> None:
        fields = [("v", int), ("at", datetime), ("prev", str | None), ("prev_seq", int), ("id", str), ("actor", str)]
        fields += [("events", tuple[event, ...]), ("state", msgspec.Raw)]
        commit = msgspec.defstruct("Commit", [*fields, ("aggregate", str | None, None)], gc=False)
        self.depth = depth
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(commit).decode
        self.decode_state: Callable[[bytes], Any] = msgspec.json.Decoder(state).decode
        self.fold = fold


def _folding(evolve: Callable[[Any, Any], Any]) -> Callable[[Any, tuple[Any, ...], datetime], Any]:
    def fold(state: Any, events: tuple[Any, ...], _at: datetime) -> Any:
        for event in events:
            state = evolve(state, event)
        return state

    return fold


FAMILY = _Kind(5, family.FamilyEvent, family.FamilyState, family.fold)
KINDS: dict[str, _Kind] = {
    "family": FAMILY,
    "tenant": _Kind(3, tenant.TenantEvent, tenant.TenantState, _folding(tenant.evolve)),
    "client": _Kind(4, client.ClientEvent, client.ClientState, _folding(client.evolve)),
    "key": _Kind(4, key.KeyEvent, key.KeyState, _folding(key.evolve)),
    "role": _Kind(4, role.RoleEvent, role.RoleState, _folding(role.evolve)),
    "subject": _Kind(4, subject.SubjectEvent, subject.SubjectState, _folding(subject.evolve)),
}
"""By the third part of the subject; the family's commits are told apart by a fifth one."""

_encode = msgspec.json.Encoder().encode


class _BadCommit(Exception):
    """This very commit is bad."""


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

    def remembered(self) -> bytes:
        return self.seq.to_bytes(8) + bytes.fromhex(self.digest) + self.encoded


def _recalled(kind: _Kind, remembered: bytes) -> _Last | None:
    if not remembered:
        return None
    state = kind.decode_state(remembered[40:]) if len(remembered) > 40 else None
    return _Last(kind, int.from_bytes(remembered[:8]), remembered[8:40].hex(), state, remembered[40:])


class Verifier:
    """Feed it the whole log in order with `check`; `report` says what it found so far.

    What `remembered` holds of an aggregate is one byte string: the last commit's sequence (8 bytes), digest (32) and
    state; no bytes for an aggregate it does not know. It lags behind until it is told to `remember`. With the `tally`
    of another verification it goes on where that one was.
    """

    def __init__(
        self,
        remembered: MutableMapping[str, bytes] | None = None,
        tally: Tally = Tally(),  # noqa: B008  # copied
    ) -> None:
        self.tally = msgspec.structs.replace(tally, faults=dict(tally.faults))
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
        elif (found := _kind_of(place)) is None:
            self._blame(place, Fault(seq, f"no aggregate of this version lies on {place}"))
            return
        else:
            kind, aggregate = found, aggregate if found is FAMILY else place
            before = self._recent.get(aggregate) or _recalled(kind, self._remembered[aggregate])
        if before is None:
            tally.aggregates += 1
            tally.families += kind is FAMILY
        state, encoded = None, b""
        try:
            state, encoded = _check(kind, aggregate, body, before, last_part)
        except _BadCommit as bad:
            self._blame(aggregate, Fault(seq, str(bad)))
        except _BrokenChain:
            self._accuse(aggregate, before.seq if before else 0, seq)
        self._recent[aggregate] = _Last(kind, seq, hashlib.sha256(body).hexdigest(), state, encoded)
        if len(self._recent) > RECENT:
            self.remember()

    def remember(self) -> None:
        """Have `remembered` hold everything."""
        self._remembered.update((aggregate, last.remembered()) for aggregate, last in self._recent.items())
        self._recent.clear()

    def report(self) -> Report:
        """So far."""
        commits, _, aggregates, families, faults = msgspec.structs.astuple(self.tally)
        return Report(commits, aggregates, families, len(faults), min(faults.values(), default=None))

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


def _kind_of(place: str) -> _Kind | None:
    """What kind of aggregate lies on a subject."""
    parts = place.split(".")
    kind = KINDS.get(parts[2]) if len(parts) > 2 else None
    return kind if kind is not None and len(parts) == kind.depth else None


def _check(kind: _Kind, aggregate: str, body: bytes, before: _Last | None, last_part: str) -> tuple[Any, bytes]:
    """The state after the commit, and its encoding. `before` is the aggregate's commit before it, if there is one."""
    try:
        commit = kind.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _BadCommit(f"unreadable: {error}") from error
    if commit.v != VERSION:
        raise _BadCommit(f"commit version {commit.v}, this program reads version {VERSION}")
    if commit.aggregate is not None and commit.aggregate != aggregate:
        raise _BadCommit(f"it is of {commit.aggregate}, and lies on {aggregate}")
    expected_seq, digest, state = (before.seq, before.digest, before.state) if before else (0, None, None)
    if commit.prev_seq != expected_seq:
        raise _BadCommit(f"it follows sequence {commit.prev_seq}, the aggregate's last commit is at {expected_seq}")
    try:
        folded = kind.fold(state, commit.events, commit.at)
    except (ValueError, TypeError) as error:
        raise _BadCommit(f"its events cannot follow: {error}") from error
    encoded = _encode(folded)
    if encoded != bytes(commit.state) and not _means(kind, commit.state, folded):
        raise _BadCommit("its state is not what its events make of the state before")
    if commit.prev != digest:
        raise _BrokenChain
    if kind is FAMILY and last_part != _last_part(commit.events):
        raise _BadCommit(f"its events do not belong on …{last_part}")
    return folded, encoded


def _last_part(events: tuple[family.FamilyEvent, ...]) -> str:
    """Of the subject that a family's commit belongs on: a question of its events' types, and there are few."""
    types = tuple(map(type, events))
    if types not in _last_parts:
        _last_parts[types] = "revoked" if family.revokes(events) else "live"
    return _last_parts[types]


_last_parts: dict[tuple[type, ...], str] = {}


def _means(kind: _Kind, written: bytes, folded: Any) -> bool:
    """Whether a state written otherwise, by another version perhaps, says the same."""
    try:
        return bool(kind.decode_state(written) == folded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
