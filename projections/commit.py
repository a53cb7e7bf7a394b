"""A commit as the projections see it: what happened, without the state it is carried in for loading."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from events.commit import VERSION
from events.family import FamilyEvent
from events.log import Stored

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Unprojectable(Exception):
    """A message of the log that the read model cannot take in."""


class FamilyCommit(NamedTuple):
    """One decision about one family. `at` is in microseconds since 1970; `revokes` as the subject says."""

    seq: int
    tenant: str
    family_id: str
    revokes: bool
    at: int
    actor: str
    events: tuple[FamilyEvent, ...]


class _Family(msgspec.Struct, gc=False):
    v: int
    at: datetime
    actor: str
    events: tuple[FamilyEvent, ...]


class _Other(msgspec.Struct):
    v: int


_family = msgspec.json.Decoder(_Family)
_other = msgspec.json.Decoder(_Other)


def read_commit(stored: Stored) -> FamilyCommit | None:
    """The commit, or None for one of another aggregate. Raises `Unprojectable` for what this version cannot read."""
    parts = stored.subject.split(".")
    is_family = len(parts) == 5 and parts[2] == "family"
    try:
        read = _family.decode(stored.body) if is_family else _other.decode(stored.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unprojectable(str(error)) from error
    if read.v != VERSION:
        raise Unprojectable(f"commit version {read.v}, this program reads version {VERSION}")
    if isinstance(read, _Other):
        return None
    revokes = parts[4] == "revoked"
    return FamilyCommit(stored.seq, parts[1], parts[3], revokes, microseconds(read.at), read.actor, read.events)


def microseconds(time: datetime) -> int:
    """Since 1970: how the read model keeps time."""
    return (time - _EPOCH) // _MICROSECOND


def moment(time: int) -> datetime:
    """The reverse of `microseconds`."""
    return _EPOCH + timedelta(microseconds=time)
