"""A commit as the projections use it: its events, without the state that is only for loading."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from events.aggregates.aggregate_names import AggregateName
from events.aggregates.client import ClientConfigured, ClientDisabled, ClientEnabled, ClientEvent, ClientSecretIssued
from events.aggregates.commit import Commit, UnreadableCommit
from events.aggregates.family_events import FamilyEvent, LateDuplicateRefused, TokenIssued, TokenRedeemed, TokenRotated
from events.aggregates.subject import SubjectEvent
from events.log import grammar
from events.log.grammar import Foreign
from events.log.stored_message import StoredMessage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


class Unprojectable(Exception):
    """A message of the log that the read model cannot apply."""


class FamilyCommit(msgspec.Struct, gc=False):
    """One decision about one family; times are in microseconds since 1970.

    `generation` is that of the family's refresh token after the commit, and `refresh_end` the token's expiry; `access`
    is the issued access token, and `access_end` its expiry. Each is None where the commit does not set it. `revokes` is
    what the subject says. The read model fills in the rest by lookup: `opened` is the sequence that opened the family,
    `last_renewal_seq` the one that issued the newest refresh token so far (or `opened`), and `access_until` when the
    last of all access tokens so far expires, 0 for none.
    """

    seq: int
    tenant: str
    family_id: str
    revokes: bool
    at: int
    actor: str
    events: tuple[FamilyEvent, ...]
    generation: int | None
    refresh_end: int | None
    access: TokenIssued | None
    access_end: int | None
    opened: int | None = None
    last_renewal_seq: int | None = None
    access_until: int = 0

    @property
    def is_notable(self) -> bool:
        """Whether it revokes something, or refuses a late duplicate: few commits do."""
        return self.revokes or type(self.events[0]) is LateDuplicateRefused


class CutOffCommit(NamedTuple):
    """Orders against a person or a client.

    `name` is the last part of the commit's subject: a client's id, or the digest of a person's `sub`.
    """

    seq: int
    tenant: str
    name: str
    at: int
    actor: str
    events: tuple[SubjectEvent | ClientDisabled | ClientEnabled, ...]


class TenantCommit(NamedTuple):
    """A change of a tenant's settings."""

    tenant: str


def read_commit(stored: StoredMessage) -> FamilyCommit | CutOffCommit | TenantCommit | Foreign | None:
    """The decoded commit, None for one that the read model does not use, or a foreign message.

    Raises `Unprojectable` for a commit that this version cannot read.
    """
    try:
        read = grammar.read_commit(stored)
    except UnreadableCommit as error:
        raise Unprojectable(str(error)) from error
    if isinstance(read, Foreign):
        return read
    name = AggregateName.parse(stored.subject)
    if name.kind == "family":
        return _family_commit(stored.seq, name.tenant, name.id, stored.subject.endswith(".revoked"), read)
    if name.kind in ("subject", "client"):
        return _cut_off_commit(stored.seq, name.tenant, name.id, read)
    return TenantCommit(name.tenant) if name.kind == "tenant" else None


def _family_commit(
    seq: int, tenant: str, family_id: str, revokes: bool, read: Commit[FamilyEvent, Any]
) -> FamilyCommit:
    generation = refresh_end = access = None
    for event in read.events:
        if isinstance(event, TokenIssued):
            if event.kind == "access":
                access = event
            elif event.kind == "refresh":
                generation, refresh_end = event.generation, event.expires_at
        elif isinstance(event, TokenRotated):
            generation, refresh_end = event.to_generation, event.expires_at
        elif isinstance(event, TokenRedeemed) and event.credential == "refresh_token":
            generation, refresh_end = event.generation, event.expires_at
    end = None if refresh_end is None else microseconds(refresh_end)
    access_end = None if access is None else microseconds(access.expires_at)
    ends = generation, end, access, access_end
    return FamilyCommit(seq, tenant, family_id, revokes, microseconds(read.at), read.actor, read.events, *ends)


def _cut_off_commit(
    seq: int, tenant: str, name: str, read: Commit[SubjectEvent | ClientEvent, Any]
) -> CutOffCommit | None:
    events = tuple(event for event in read.events if not isinstance(event, ClientConfigured | ClientSecretIssued))
    return CutOffCommit(seq, tenant, name, microseconds(read.at), read.actor, events) if events else None


def microseconds(time: datetime) -> int:
    """The time in microseconds since 1970, as the read model stores it."""
    return (time - _EPOCH) // _MICROSECOND


def moment(time: int) -> datetime:
    """The reverse of `microseconds`; a time outside all years, as a forger may write, becomes the nearest one."""
    return _EPOCH + timedelta(microseconds=min(max(time, _FIRST), _LAST))
