"""`admin.<tenant>.tenant.put`: a tenant's settings, and its first signing keys."""

from functools import partial
from typing import Any

import msgspec

from events.aggregates import aggregate_names
from events.aggregates import settings as tenant_events
from events.aggregates.settings import ClientSettings, TenantSettings
from service.admin import replies
from service.admin.await_effect import wait_until_effective
from service.admin.change_and_apply import change_and_apply
from service.admin.key import ensure_keys
from service.context import AdminContext
from service.decide.policy import longest_before, resolve
from service.errors import OAuthError
from service.registry.parse_settings import for_tenant
from service.request import decode

_decoder = msgspec.json.Decoder(dict[str, Any])


async def put(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq, changed}`. The settings are replaced as a whole; the same ones again write nothing.

    Raises `invalid_request` naming every fault, `temporarily_unavailable` when the effect takes too long, and
    `Unavailable`.
    """
    if not aggregate_names.TENANT.fullmatch(tenant):
        raise OAuthError("invalid_request", "a tenant's name is [a-z0-9][a-z0-9-]{0,62}")
    settings = for_tenant(decode(body, _decoder))

    decide, aggregate = partial(configure, settings=settings), aggregate_names.tenant(tenant)
    guard = partial(_nobody_elses, context, tenant, settings.issuer) if settings.issuer is not None else None
    written = await change_and_apply(context, aggregate, decide, guard)
    configured = await context.registry.tenant(tenant)
    if configured is not None:
        await ensure_keys(context, configured, settings.signing_alg or "ES256")
    await wait_until_effective(context, written.stored)
    return msgspec.json.encode(replies.Put(written.stored.seq, written.changed))


async def _nobody_elses(context: AdminContext, tenant: str, issuer: str) -> tuple[str, int, str]:
    """The guard of an append: the filter of all tenants' commits, and its last sequence there (RFC 8414 §2).

    Up to that commit no other tenant has this issuer, so of two tenants that claim it at once one is refused. Raises
    `invalid_request` if another tenant has it, and `Unavailable`.
    """
    expected = await context.log.expected_of(aggregate_names.EVERY_TENANT.filter)
    newest = await context.log.newest(aggregate_names.EVERY_TENANT.filter)  # it may lie in a closed book
    await context.registry.catch_up(newest.seq if newest is not None else 0)
    if any(known.issuer == issuer and known.name != tenant for known in context.registry.tenants()):
        raise OAuthError(
            "invalid_request", "issuer: another tenant has that one; each is one issuer (RFC 8414 section 2)"
        )
    return aggregate_names.EVERY_TENANT.filter, *expected


def configure(
    state: tenant_events.TenantState | None, settings: TenantSettings
) -> tuple[tenant_events.TenantEvent, ...]:
    """`TenantConfigured`, or no event if the tenant has these settings already."""
    if state is None:
        return (tenant_events.TenantConfigured(settings),)
    if state.settings == settings:
        return ()
    longest = longest_before(_ttl(settings), _ttl(state.settings), state.longest_ttl)
    return (tenant_events.TenantConfigured(settings, longest),)


def _ttl(settings: TenantSettings) -> int:
    return resolve(settings, ClientSettings()).access_token_ttl
