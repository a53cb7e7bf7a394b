"""`token`: the token endpoint (RFC 6749 §3.2). Each grant type is a file in `service/endpoints/grants`."""

from collections.abc import Awaitable, Callable

from events.aggregates.family import CLIENT_GRANT, DEVICE_GRANT
from events.aggregates.settings import TOKEN_EXCHANGE
from service.context import Caller, Context
from service.endpoints.grants import authorization_code, client_credentials, device_code, refresh_token, token_exchange
from service.endpoints.grants.token_request import TokenRequest, decoder
from service.errors import OAuthError
from service.request import Request, parameters_of, required

Grant = Callable[[Caller, Request, TokenRequest], Awaitable[bytes]]

GRANTS: dict[str, Grant] = {
    "refresh_token": refresh_token.handle,
    "authorization_code": authorization_code.handle,
    CLIENT_GRANT: client_credentials.handle,
    DEVICE_GRANT: device_code.handle,
    TOKEN_EXCHANGE: token_exchange.handle,
}


async def handle(context: Context, request: Request) -> bytes:
    """A token response (RFC 6749 §5.1). The client is checked before the token (§5.2).

    Raises `unsupported_grant_type`, `unauthorized_client`, and as the grant.
    """
    parameters = parameters_of(request, decoder)
    caller = await context.caller(request.tenant, request.client_id)
    grant_type = required(parameters.grant_type, "grant_type")
    grant = GRANTS.get(grant_type)
    if grant is None:
        raise OAuthError("unsupported_grant_type", "grant_type must be one of: " + ", ".join(GRANTS))
    if grant_type not in caller.client.rules.grant_types:
        raise OAuthError("unauthorized_client", "this client is not registered for that grant type")
    return await grant(caller, request, parameters)
