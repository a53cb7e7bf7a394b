"""A cut-off of a person that ends the families there are, and leaves later ones alone."""

from events.aggregates import aggregate_names
from events.aggregates.subject import ConsentWithdrawn, SubjectEvent, SubjectState, SubjectTokensRevoked
from service.admin.await_effect import newest_with, reply_when_complete, wait_until_effective
from service.context import AdminContext
from service.registry.change_aggregate import change


async def cut_off_once(context: AdminContext, tenant: str, event: SubjectTokensRevoked | ConsentWithdrawn) -> bytes:
    """`{seq, revoked_families}`. Appends nothing if the same was ordered before and no family has begun since.

    Raises `temporarily_unavailable` when the effect takes too long, and `Unavailable`.
    """
    client_id = event.client_id if isinstance(event, ConsentWithdrawn) else None
    aggregate = aggregate_names.subject(tenant, event.sub)
    last = (await context.log.head(aggregate)).stored
    before = await newest_with(context, last, type(event), client_id)
    if before is not None:
        await wait_until_effective(context, before)  # a family that lives after this has begun later
        if not await _lives(context, tenant, event.sub, client_id):
            return await reply_when_complete(context, before, type(event), client_id)

    def decide(_state: SubjectState | None) -> tuple[SubjectEvent, ...]:
        return (event,)

    written = await change(context.log, aggregate, decide)
    return await reply_when_complete(context, written.stored, type(event), client_id)


async def _lives(context: AdminContext, tenant: str, sub: str, client_id: str | None) -> bool:
    now = await context.log.last_sequence()
    async for families in context.read_model.live(tenant, sub, client_id, now, limit=1):
        if families:  # a page may be empty, and a later one not
            return True
    return False
