"""`device_authorization`: a device without a browser asks for a person's approval (RFC 8628 §3.1)."""

from datetime import timedelta

import msgspec

from events.aggregates.family import DEVICE_GRANT
from events.aggregates.family_events import DeviceAuthorizationStarted
from service import clock
from service.context import Context
from service.decide.device_authorization import DEVICE_CODE_SECONDS, INTERVAL_SECONDS
from service.decide.scope import REGISTERED, audience_of, narrow
from service.decide.token_size import check_size
from service.errors import OAuthError
from service.keys.mac_tokens import new_seed
from service.keys.user_code import family_of, new_user_code
from service.request import Request, parameters_of

MAX_ATTEMPTS = 4


class DeviceAuthorizationRequest(msgspec.Struct, frozen=True):
    """The parameters of RFC 8628 §3.1. The client is the caller; `client_id` may repeat that."""

    scope: str | None = None
    resource: str | tuple[str, ...] | None = None
    client_id: str | None = None


class DeviceAuthorizationResponse(msgspec.Struct, frozen=True):
    """RFC 8628 §3.2."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


_decoder = msgspec.json.Decoder(DeviceAuthorizationRequest)


async def handle(context: Context, request: Request) -> bytes:
    """The device code, the user code and where to enter it (RFC 8628 §3.2).

    Raises `unauthorized_client`, `invalid_scope`, `invalid_target`, `slow_down` where too many devices wait, and
    `temporarily_unavailable`.
    """
    parameters = parameters_of(request, _decoder)
    caller = await context.caller(request.tenant, request.client_id)
    tenant, client = caller.tenant, caller.client
    if DEVICE_GRANT not in client.rules.grant_types:
        raise OAuthError("unauthorized_client", "this client is not registered for the device flow")
    scope = narrow(parameters.scope, client.rules.scope, REGISTERED)
    audience = audience_of(parameters.resource, client.rules.audiences)
    check_size("", scope, audience, None, ())
    seed, now = new_seed(), clock.now()
    expires_at = now + timedelta(seconds=DEVICE_CODE_SECONDS)
    started = DeviceAuthorizationStarted(client.client_id, scope, audience, seed, expires_at)

    for _ in range(MAX_ATTEMPTS):
        user_code = new_user_code()
        family_id = family_of(context.keyring, tenant.name, user_code) or ""
        if (await context.families.load(tenant.name, family_id)).state is not None:
            continue  # the user code was used before
        if await context.devices.waiting.add(tenant.name, family_id, started, client.rules.max_pending_devices):
            break
    else:
        raise OAuthError("temporarily_unavailable", "no free user code was found; try again")
    uri = tenant.settings.verification_uri or f"{tenant.issuer.rstrip('/')}/device"
    response = DeviceAuthorizationResponse(
        device_code=tenant.device_codes.mint(tenant.mac_key, family_id, 0, seed),
        user_code=user_code,
        verification_uri=uri,
        verification_uri_complete=f"{uri}?user_code={user_code}",
        expires_in=DEVICE_CODE_SECONDS,
        interval=INTERVAL_SECONDS,
    )
    return msgspec.json.encode(response)
