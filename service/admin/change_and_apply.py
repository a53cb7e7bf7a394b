"""A change of an aggregate that this replica applies at once, before the log delivers it."""

from events.aggregates.aggregate_names import Aggregate
from service.context import AdminContext
from service.registry.change_aggregate import DecideChange, Guard, Written, change


async def change_and_apply(
    context: AdminContext, aggregate: Aggregate, decide: DecideChange, guard: Guard | None = None
) -> Written:
    """Change the aggregate as by `change`, and apply its last commit to the registry. Raises as `change`."""
    written = await change(context.log, aggregate, decide, guard)
    context.registry.apply(written.stored)
    return written
