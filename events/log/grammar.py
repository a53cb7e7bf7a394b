"""Defines which messages are commits: every reader of the log calls `read_commit` (CONTRACT §6, ADR 0024).

A message outside this grammar is *foreign*: it is reported with its sequence and skipped, and has no other effect.
A commit of a later version is not foreign: it happened, and a reader that does not understand it must stop.
"""

import re
from functools import lru_cache
from typing import Any, NoReturn, get_args

import msgspec

from events.aggregates import aggregate_names, family_events
from events.aggregates.aggregate_names import (
    NO_TENANT,
    STREAM,
    TENANT,
    Aggregate,
    AggregateName,
    single,
    subject_digest,
)
from events.aggregates.commit import VERSION, Commit, Time, UnreadableCommit, type_of
from events.aggregates.kinds import FAMILY, KINDS, Kind
from events.log.stored_message import StoredMessage

_SHOWN = 100
"""How many characters of a foreign message's subject are shown."""


class Foreign(msgspec.Struct, frozen=True, order=True):
    """A message at `seq` of its `stream` that is not a commit (or not a checkpoint), and the reason.

    `subject` is the beginning of its subject, safe to print.
    """

    seq: int
    subject: str
    reason: str
    stream: str = STREAM


EVENTS = tuple(event for kind in KINDS.values() for event in get_args(kind.codec.event) or (kind.codec.event,))
_event_types = {type_of(event) for event in EVENTS}


class _Event(msgspec.Struct):
    type: str


class _Envelope(msgspec.Struct):
    """The fields that commits of all versions share. A family's may have no `actor`."""

    v: int
    id: str
    at: Time
    prev: str | None
    prev_seq: int
    events: tuple[_Event, ...]
    state: dict[str, Any]
    actor: str = ""
    aggregate: str | None = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_VALUE = re.compile(r"(value|tag) '.*?'(?= - at |$)", re.DOTALL)


def kind_of(place: str) -> Kind | None:
    """The kind of the aggregate with this subject; None if it is no aggregate's."""
    parts = place.split(".")
    kind = KINDS.get(parts[2]) if len(parts) > 2 else None
    if kind is None or len(parts) != kind.parts or parts[0] != "tokens" or not _may_own(parts[1], kind):
        return None
    if kind is FAMILY and parts[4] != "live" and parts[4] != "revoked":
        return None
    return kind if kind.id.fullmatch(parts[2 if kind.parts == 3 else 3]) else None


def aggregate_on(place: str) -> Aggregate | None:
    """The aggregate with this subject; None if it is no aggregate's."""
    kind = kind_of(place)
    if kind is None:
        return None
    if kind is not FAMILY:
        return single(place)
    name = AggregateName.parse(place)
    return aggregate_names.family(name.tenant, name.id)


def read_commit(stored: StoredMessage) -> Commit[Any, Any] | Foreign:
    """Decode the commit in a message of the log, or find why it is foreign.

    Raises `UnreadableCommit` for a commit of a later version, or with an event that this version does not know.
    """
    kind = kind_of(stored.subject)
    if kind is None:
        return foreign(stored, "no aggregate lies on this subject")
    try:
        commit = kind.codec.decode(stored.body)
    except UnreadableCommit as error:
        return foreign(stored, _unreadable(kind, stored, str(error)))
    why = _misplaced(kind, stored, commit)
    return commit if why is None else foreign(stored, why)


def foreign(stored: StoredMessage, reason: str, stream: str = STREAM) -> Foreign:
    """Describe a foreign message without repeating any of its body."""
    subject = "".join(letter if letter.isprintable() else "\ufffd" for letter in stored.subject[:_SHOWN])
    return Foreign(stored.seq, subject, reason, stream)


def _misplaced(kind: Kind, stored: StoredMessage, commit: Commit[Any, Any]) -> str | None:
    """Say why a readable commit cannot be on its subject or at its sequence; None if it can."""
    if kind is FAMILY:
        last_part = stored.subject.rpartition(".")[2]
        if last_part != belongs_on(commit.events):
            return f"its events do not belong on …{last_part}"
    elif kind.name == "subject" and subject_digest(commit.state.sub) != stored.subject[-32:]:
        return "it is about another person than its subject"
    return _unchained(kind, stored, commit)


def _unchained(kind: Kind, stored: StoredMessage, commit: Commit[Any, Any] | _Envelope) -> str | None:
    """Say why a commit of any version cannot follow another message there; None if it can."""
    if not commit.events:
        return "it holds no events"
    if not 0 <= commit.prev_seq < stored.seq or (commit.prev is None) != (commit.prev_seq == 0):
        return "what it follows does not lie before it"
    if commit.aggregate is None:
        return None
    name = stored.subject.rpartition(".")[0] if kind is FAMILY else stored.subject
    return None if commit.aggregate == name else "it is of another aggregate"


def belongs_on(events: tuple[Any, ...]) -> str:
    """The last token of the subject of a family's commit with these events."""
    return "revoked" if family_events.revokes(events) else "live"


def _unreadable(kind: Kind, stored: StoredMessage, error: str) -> str:
    """Say why a body is not a commit of any version. Raises `UnreadableCommit` for one of a later version."""
    try:
        envelope = _decode_envelope(stored.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        return f"unreadable: {_VALUE.sub('value', str(fault))}"
    if (why := _unchained(kind, stored, envelope)) is not None:
        return why
    if envelope.v > VERSION:
        _refuse(f"commit version {envelope.v}, this program reads version {VERSION}")
    unknown = sorted({event.type for event in envelope.events} - _event_types)
    if envelope.v == VERSION and unknown:
        _refuse(f"events of the type {unknown[0][:_SHOWN]!r} are not known to this version")
    return f"unreadable: {_VALUE.sub('value', error)}"


def _refuse(why: str) -> NoReturn:
    raise UnreadableCommit(why)


@lru_cache(maxsize=1000)  # nearly all messages are of a few tenants
def _may_own(name: str, kind: Kind) -> bool:
    """Whether an aggregate of that kind may be of the tenant with this name; the log's own are of none."""
    return name == NO_TENANT if kind.name == "book" else TENANT.fullmatch(name) is not None
