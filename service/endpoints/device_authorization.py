"""`device_authorization`: a device without a browser asks (RFC 8628 §3.1)."""

from datetime import datetime

import msgspec

from events.family import DEVICE_GRANT, FamilyState
from service.context import Context
from service.decide.device import DEVICE_CODE_SECONDS, INTERVAL_SECONDS, StartDevice, start_device
from service.decide.outcome import Decision, Done
from service.decide.size import check_size
from service.errors import OAuthError
from service.request import Request, parameters_of
from service.scope import REGISTERED, audience_of, narrow
from service.tokens import new_seed
from service.user_code import family_of, new_user_code

ATTEMPTS = 4


class DeviceAuthorizationRequest(msgspec.Struct, frozen=True):
    """RFC 8628 §3.1; the client is the caller, and the parameter may say so."""

    scope: str | None = None
    resource: str | tuple[str, ...] | None = None
    client_id: str | None = None


_decoder = msgspec.json.Decoder(DeviceAuthorizationRequest)


async def handle(context: Context, request: Request) -> bytes:
    """RFC 8628 §3.2."""
    parameters = parameters_of(request, _decoder)
    tenant, client = await context.caller(request.tenant, request.client_id)
    if DEVICE_GRANT not in client.rules.grant_types:
        raise OAuthError("unauthorized_client", "this client is not registered for the device flow")
    scope = narrow(parameters.scope, client.rules.scope, REGISTERED)
    audience = audience_of(parameters.resource, client.rules.audiences)
    check_size("", scope, audience, None, ())
    seed = new_seed()

    def decide(state: FamilyState | None, now: datetime, _id: str) -> Decision:
        return start_device(state, StartDevice(now, client.client_id, scope, audience, seed))

    for _ in range(ATTEMPTS):
        user_code = new_user_code()
        family_id = family_of(context.keyring, tenant.name, user_code) or ""
        concluded = await context.families.decide(tenant.name, family_id, request.actor, decide)
        if isinstance(concluded.outcome, Done):  # else the code has been in use before
            break
    else:
        raise OAuthError("temporarily_unavailable", "no free user code was found; try again")
    uri = tenant.settings.verification_uri or f"{tenant.issuer.rstrip('/')}/device"
    return msgspec.json.encode(
        {
            "device_code": tenant.device_codes.mint(tenant.mac_key, family_id, 0, seed),
            "user_code": user_code,
            "verification_uri": uri,
            "verification_uri_complete": f"{uri}?user_code={user_code}",
            "expires_in": DEVICE_CODE_SECONDS,
            "interval": INTERVAL_SECONDS,
        }
    )
