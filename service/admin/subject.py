"""`admin.<tenant>.subject.…`: a person is blocked or unblocked, or loses all tokens once."""

import msgspec

from events.aggregates import aggregate_names
from events.aggregates.subject import (
    SubjectBlocked,
    SubjectEvent,
    SubjectState,
    SubjectTokensRevoked,
    SubjectUnblocked,
)
from service.admin.await_effect import reply_when_complete
from service.admin.cut_off_once import cut_off_once
from service.admin.parameters import known_tenant, reason_of, sub_of
from service.context import AdminContext
from service.registry.change_aggregate import change
from service.request import decode


class SubjectRequest(msgspec.Struct, frozen=True):
    """The person, and a `reason` in the operator's own words."""

    sub: str | None = None
    reason: str | None = None


_decoder = msgspec.json.Decoder(SubjectRequest)


async def block(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq, revoked_families}`: no more tokens are issued for the person, and the person's tokens are void.

    Raises `invalid_request`, `temporarily_unavailable` when the effect takes too long, and `Unavailable`.
    """
    sub, reason = await _asked(context, tenant, body)

    def decide(state: SubjectState | None) -> tuple[SubjectEvent, ...]:
        return () if state is not None and state.blocked else (SubjectBlocked(sub, reason),)

    written = await change(context.log, aggregate_names.subject(tenant, sub), decide)
    return await reply_when_complete(context, written.stored, SubjectBlocked)


async def unblock(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq, revoked_families}`, the latter 0: families may begin again; void tokens stay void. Raises as `block`."""
    sub, reason = await _asked(context, tenant, body)
    aggregate = aggregate_names.subject(tenant, sub)
    if (await context.log.head(aggregate)).stored is None:
        return await reply_when_complete(context, None, SubjectUnblocked)

    def decide(state: SubjectState | None) -> tuple[SubjectEvent, ...]:
        return (SubjectUnblocked(sub, reason),) if state is not None and state.blocked else ()

    written = await change(context.log, aggregate, decide)
    return await reply_when_complete(context, written.stored, SubjectUnblocked)


async def revoke(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq, revoked_families}`: the person's tokens are void; new families may begin. Raises as `block`."""
    sub, reason = await _asked(context, tenant, body)
    return await cut_off_once(context, tenant, SubjectTokensRevoked(sub, reason))


async def _asked(context: AdminContext, tenant: str, body: bytes) -> tuple[str, str | None]:
    parameters = decode(body, _decoder)
    sub = sub_of(parameters.sub)
    await known_tenant(context, tenant)
    return sub, reason_of(parameters.reason)
