"""When an administrator's reply may be sent: its effect is complete everywhere (CONTRACT §5)."""

import msgspec

from events.aggregates import subjects
from events.aggregates.commit import type_of
from events.aggregates.subjects import AggregateName
from events.log.stored_commit import Stored
from service.context import AdminContext
from service.cut_offs.reactor import cut_off_of
from service.decide.cut_off import CutOff
from service.errors import OAuthError

MAX_REASON = 500
"""Characters of an operator's own words."""


class _Commit(msgspec.Struct):
    class Event(msgspec.Struct):
        type: str
        client_id: str | None = None

    prev_seq: int
    events: tuple[Event, ...]


async def effective(context: AdminContext, stored: Stored) -> CutOff | None:
    """Return when no replica decides on older settings than these, and every family they end has ended.

    Gives what they end. Raises `temporarily_unavailable` when that takes too long.
    """
    found = await cut_off_of(context.log, stored)
    if found is None:
        if (
            AggregateName.parse(stored.subject).kind != "subject"
        ):  # the log itself guards against an old view of a person
            await context.replicas.barrier(stored.seq)
    elif not await context.completed.wait(stored.seq):
        raise OAuthError(
            "temporarily_unavailable",
            f"the command stands (sequence {stored.seq}) and will be completed; repeat it to wait for that",
        )
    return found


async def complete(
    context: AdminContext, last: Stored | None, event: type[msgspec.Struct], client_id: str | None = None
) -> bytes:
    """`{seq, revoked_families}` of the newest such event of an aggregate, complete. `last` is the aggregate's last.

    `seq` is the last commit's where there never was one, and 0 where there is no commit at all.
    """
    stored = await newest(context, last, event, client_id)
    if stored is None:
        return msgspec.json.encode({"seq": last.seq if last is not None else 0, "revoked_families": 0})
    found = await effective(context, stored)
    count = 0
    if found is not None:
        tenant = AggregateName.parse(stored.subject).tenant
        count = await context.read_model.ended(tenant, found, await context.log.last_sequence())
    return msgspec.json.encode({"seq": stored.seq, "revoked_families": count})


async def newest(
    context: AdminContext, last: Stored | None, event: type[msgspec.Struct], client_id: str | None = None
) -> Stored | None:
    """The aggregate's newest commit with such an event (about that client), looking back from `last`."""
    while last is not None:
        commit = msgspec.json.decode(last.body, type=_Commit)
        for found in commit.events:
            if found.type == type_of(event) and (client_id is None or found.client_id == client_id):
                return last
        last = await context.log.at(commit.prev_seq) if commit.prev_seq else None
    return None


async def known_tenant(context: AdminContext, tenant: str) -> None:
    """Raises `invalid_request` for a tenant there is not."""
    if await context.registry.tenant(tenant) is None:
        raise OAuthError("invalid_request", "there is no such tenant")


async def known_client(context: AdminContext, tenant: str, client_id: str) -> None:
    """Raises `invalid_request` for a client there is not."""
    found = await context.registry.tenant(tenant)
    if found is None:
        raise OAuthError("invalid_request", "there is no such tenant")
    if not subjects.CLIENT_ID.fullmatch(client_id) or await context.registry.client(found, client_id) is None:
        raise OAuthError("invalid_request", "there is no such client")
