"""The commit: the events of one decision and the state after them, in one message (CONTRACT §6).

Every commit contains the SHA-256 of the aggregate's previous message body (`prev`) and that message's stream sequence
(`prev_seq`), so an aggregate's history is a hash chain that also locates each link in the stream.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args

import msgspec

from events import base64url

E = TypeVar("E")
S = TypeVar("S")

VERSION = 1
Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time in the log. It must have a zone, since times without one cannot be compared."""


class Commit(msgspec.Struct, Generic[E, S], frozen=True, omit_defaults=True):
    """One decision: its `events`, at least one, and the aggregate's `state` after them, for loading in one read.

    An aggregate's first commit contains its name (`Aggregate.name`), which holds for all commits chained to it
    (ADR 0017).
    """

    v: int
    id: str
    at: Time
    actor: str
    prev: str | None
    prev_seq: int
    events: tuple[E, ...]
    state: S
    aggregate: str | None = None


class UnreadableCommit(Exception):
    """The message is not a commit that this version understands."""


class Codec(Generic[E, S]):
    """Encodes and decodes the commits of one kind of aggregate; `event` and `state` are the types in them.

    A kind may write its events in a shorter form (`written_event`), and leave out of a state what they set.
    """

    def __init__(self, commit_type: Any) -> None:
        self.event, self.state = get_args(commit_type)
        self.written_event = self.event
        self._decoder: msgspec.json.Decoder[Commit[E, S]] = msgspec.json.Decoder(commit_type)
        self._encoder = msgspec.json.Encoder()

    def encode(self, commit: Commit[E, S]) -> bytes:
        """Encode a commit as a message body in compact JSON."""
        return self._encoder.encode(commit)

    def decode(self, body: bytes) -> Commit[E, S]:
        """Decode a message body. Raises `UnreadableCommit` unless it is a commit of this kind and a known version."""
        commit: Commit[E, S] = read(self._decoder, body)
        return commit

    def whole_events(self, commit: Any, _before: S | None) -> tuple[E, ...]:
        """The events of a commit whose state is not decoded, after the state `before`. Raises `ValueError`."""
        events: tuple[E, ...] = commit.events
        return events

    def without_events(self, state: S, _events: tuple[E, ...]) -> S:
        """The state as it is written in a commit of these events."""
        return state


def read(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    """Decode a message body. Raises `UnreadableCommit` unless it is a commit of this kind and a known version."""
    try:
        commit = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableCommit(str(error)) from error
    if commit.v != VERSION:
        raise UnreadableCommit(f"commit version {commit.v}, this program reads version {VERSION}")
    return commit


_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def later(at: datetime, duration: timedelta) -> datetime:
    """The time that much after `at`; where a forger wrote one beyond all years, the last or the first there is."""
    try:
        return at + duration
    except OverflowError:
        return _LAST if duration > timedelta() else _FIRST


def type_of(event: msgspec.Struct | type[msgspec.Struct]) -> str:
    """The tag of an event or of an event type: its name in the log and in every answer."""
    return str(event.__struct_config__.tag)


def digest(body: bytes) -> str:
    """The SHA-256 of a message body in base64url: the `prev` of the next commit."""
    return base64url.encode(hashlib.sha256(body).digest()).decode()
