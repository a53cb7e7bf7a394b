"""`client_credentials`: a token for the client itself (RFC 6749 §4.4). Never a refresh token (§4.4.3)."""

from events.aggregates.family import CLIENT_GRANT
from events.aggregates.family_events import GrantAuthorized
from service.access_tokens.open_family import open_family
from service.context import Caller
from service.decide.scope import OFFLINE_ACCESS, OPENID, REGISTERED, audience_of, narrow
from service.endpoints.grants.token_request import TokenRequest
from service.errors import OAuthError
from service.keys.mac_tokens import new_seed
from service.request import Request


async def handle(caller: Caller, _request: Request, parameters: TokenRequest) -> bytes:
    """A token response whose `sub` is the client. Raises `unauthorized_client`, `invalid_scope`, `invalid_target`."""
    client = caller.client
    if client.rules.token_endpoint_auth_method == "none":
        raise OAuthError("unauthorized_client", "a public client has no credentials of its own (RFC 6749 section 4.4)")
    registered = client.rules.scope
    grant = GrantAuthorized(
        client_id=client.client_id,
        sub=client.client_id,
        scope=narrow(parameters.scope, registered, REGISTERED) if parameters.scope else _own(registered),
        audience=audience_of(parameters.resource, client.rules.audiences),
        grant=CLIENT_GRANT,
        seed=new_seed(),
    )
    return await open_family(caller, grant)


def _own(registered: str) -> str:
    """The registered scope without the values that only a person can grant (OpenID Connect Core §3.1.2.1, §11)."""
    return " ".join(value for value in registered.split() if value not in (OPENID, OFFLINE_ACCESS))
