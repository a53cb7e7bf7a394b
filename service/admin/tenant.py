"""`admin.<tenant>.tenant.put`: a tenant's settings, and its first signing keys."""

from typing import Any

import msgspec

from events import subjects
from events import tenant as tenant_events
from events.settings import TenantSettings
from service.admin.effect import effective
from service.admin.key import ensure_keys
from service.admin.settings import parse
from service.aggregates import change
from service.context import Context
from service.errors import OAuthError
from service.request import decode

_decoder = msgspec.json.Decoder(dict[str, Any])


async def put(context: Context, tenant: str, body: bytes) -> bytes:
    """`{seq}`. The settings are replaced as a whole; putting the same ones again writes nothing."""
    if not subjects.TENANT.fullmatch(tenant):
        raise OAuthError("invalid_request", "a tenant's name is [a-z0-9][a-z0-9-]{0,62}")
    settings = parse(TenantSettings, decode(body, _decoder))

    def decide(state: tenant_events.TenantState | None) -> tuple[tenant_events.TenantEvent, ...]:
        unchanged = state is not None and state.settings == settings
        return () if unchanged else (tenant_events.TenantConfigured(settings),)

    written = await change(
        context.log, subjects.tenant(tenant), tenant_events.codec, tenant_events.evolve, decide, "operator"
    )
    context.registry.apply(written.stored)
    configured = await context.registry.tenant(tenant)
    if configured is not None:
        await ensure_keys(context, configured, settings.signing_alg or "ES256")
    await effective(context, written.stored)
    return msgspec.json.encode({"seq": written.stored.seq, "changed": written.changed})
