"""The wait before an administrator's reply: its effect must be complete on every replica (CONTRACT §5)."""

import msgspec

from events.aggregates.aggregate_names import AggregateName
from events.aggregates.commit import type_of
from events.log.stored_message import StoredMessage
from service.admin import replies
from service.context import AdminContext
from service.cut_offs.reactor import cut_off_of
from service.decide.cut_off import CutOff
from service.errors import OAuthError


class _Commit(msgspec.Struct):
    class Event(msgspec.Struct):
        type: str
        client_id: str | None = None

    prev_seq: int
    events: tuple[Event, ...]


async def wait_until_effective(context: AdminContext, stored: StoredMessage) -> CutOff | None:
    """Return when no replica decides on settings older than this commit, and all families that it ends have ended.

    Returns the cut-off, if it is one. Raises `temporarily_unavailable` when that takes too long, and `Unavailable`.
    """
    found = await cut_off_of(context.log, stored)
    if found is None:
        # a family's first commit expects the person's newest one, so an old view of a person is refused by the log
        if AggregateName.parse(stored.subject).kind != "subject":
            await context.replicas.barrier(stored.seq)
    elif not await context.completed.wait(stored.seq):
        raise OAuthError(
            "temporarily_unavailable",
            f"the command stands (sequence {stored.seq}) and will be completed; repeat it to wait for that",
        )
    return found


async def reply_when_complete(
    context: AdminContext, last: StoredMessage | None, event: type[msgspec.Struct], client_id: str | None = None
) -> bytes:
    """`{seq, revoked_families}` of the newest commit with such an event, once its effect is complete.

    `last` is the aggregate's last commit. Without such an event `seq` is its sequence, without any commit 0. Raises as
    `wait_until_effective`.
    """
    stored = await newest_with(context, last, event, client_id)
    if stored is None:
        return msgspec.json.encode(replies.CutOff(last.seq if last is not None else 0, 0))
    found = await wait_until_effective(context, stored)
    count = 0
    if found is not None:
        tenant = AggregateName.parse(stored.subject).tenant
        count = await context.read_model.ended(tenant, found, await context.log.last_sequence())
    return msgspec.json.encode(replies.CutOff(stored.seq, count))


async def newest_with(
    context: AdminContext, last: StoredMessage | None, event: type[msgspec.Struct], client_id: str | None = None
) -> StoredMessage | None:
    """The aggregate's newest commit up to `last` with such an event, about that client if one is given.

    Raises `Unavailable`.
    """
    while last is not None:
        commit = msgspec.json.decode(last.body, type=_Commit)
        for found in commit.events:
            if found.type == type_of(event) and (client_id is None or found.client_id == client_id):
                return last
        last = await context.log.at(commit.prev_seq) if commit.prev_seq else None
    return None
