"""`admin.<tenant>.tenant.put`: a tenant's settings, and its first signing key."""

from typing import Any

import msgspec

from events import key as key_events
from events import subjects
from events import tenant as tenant_events
from events.settings import TenantSettings
from service.admin.effect import effective
from service.admin.settings import parse
from service.aggregates import change
from service.context import Context
from service.errors import OAuthError
from service.request import decode
from service.signing import SigningKey

_decoder = msgspec.json.Decoder(dict[str, Any])


async def put(context: Context, tenant: str, body: bytes) -> bytes:
    """`{seq}`. The settings are replaced as a whole; putting the same ones again writes nothing."""
    if not subjects.TENANT.fullmatch(tenant):
        raise OAuthError("invalid_request", "a tenant's name is [a-z0-9][a-z0-9-]{0,62}")
    settings = parse(TenantSettings, decode(body, _decoder))
    await _ensure_key(context, tenant, settings)

    def decide(state: tenant_events.TenantState | None) -> tuple[tenant_events.TenantEvent, ...]:
        unchanged = state is not None and state.settings == settings
        return () if unchanged else (tenant_events.TenantConfigured(settings),)

    written = await change(
        context.log, subjects.tenant(tenant), tenant_events.codec, tenant_events.evolve, decide, "operator"
    )
    context.registry.apply(written.stored)
    await effective(context, written.stored)
    return msgspec.json.encode({"seq": written.stored.seq, "changed": written.changed})


async def _ensure_key(context: Context, tenant: str, settings: TenantSettings) -> None:
    """A tenant signs from its first moment. The first key follows from the keyring, so a race makes the same one."""
    known = await context.registry.tenant(tenant)
    if known is not None and known.signing is not None:
        return
    alg, secret = settings.signing_alg or "ES256", context.keyring.current
    key = SigningKey(context.keyring, tenant, secret, 1, alg)

    def decide(state: key_events.KeyState | None) -> tuple[key_events.KeyEvent, ...]:
        if state is not None:
            return ()
        return key_events.KeyPublished(alg, secret, 1, key.public_jwk()), key_events.KeyActivated()

    written = await change(
        context.log, subjects.key(tenant, key.kid), key_events.codec, key_events.evolve, decide, "operator"
    )
    context.registry.apply(written.stored)
