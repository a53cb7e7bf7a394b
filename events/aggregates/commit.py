"""The commit: the events of one decision and the state after them, in one message (CONTRACT §6).

Every commit holds the SHA-256 of the aggregate's previous message body (`prev`) and that message's stream sequence
(`prev_seq`), so an aggregate's history is a hash chain that also says where in the stream each link lies.
"""

import hashlib
from datetime import datetime
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args

import msgspec

E = TypeVar("E")
S = TypeVar("S")

VERSION = 1
Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment as the log holds it: without a zone it is none, as it could be compared with no other."""


class Commit(msgspec.Struct, Generic[E, S], frozen=True, omit_defaults=True):
    """One decision. `events` is never empty; `state` is the aggregate after them, for loading in one read.

    An aggregate's first commit names it (`Aggregate.name`), and thereby all that is chained to it (ADR 0017).
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
    """A message of the log that is not a commit this version understands."""


class Codec(Generic[E, S]):
    """Encodes and decodes the commits of one kind of aggregate; `event` and `state` are the types of what they hold."""

    def __init__(self, commit_type: Any) -> None:
        self.event, self.state = get_args(commit_type)
        self._decoder: msgspec.json.Decoder[Commit[E, S]] = msgspec.json.Decoder(commit_type)
        self._encoder = msgspec.json.Encoder()

    def encode(self, commit: Commit[E, S]) -> bytes:
        """The message body: compact JSON."""
        return self._encoder.encode(commit)

    def decode(self, body: bytes) -> Commit[E, S]:
        """Raises `UnreadableCommit` for anything but a commit of this aggregate and a known version."""
        try:
            commit = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadableCommit(str(error)) from error
        if commit.v != VERSION:
            raise UnreadableCommit(f"commit version {commit.v}, this program reads version {VERSION}")
        return commit


def type_of(event: msgspec.Struct | type[msgspec.Struct]) -> str:
    """The name of an event, or of a type of events, in the log and in every answer: its tag, not its class's name."""
    return str(event.__struct_config__.tag)


def digest(body: bytes) -> str:
    """SHA-256 of a message body, hexadecimal: the next commit's `prev`."""
    return hashlib.sha256(body).hexdigest()
