"""`client_credentials`: a token for the client itself (RFC 6749 §4.4). Never a refresh token (§4.4.3)."""

from functools import partial

from service.context import Context
from service.decide.issue import Issue
from service.errors import OAuthError
from service.grants.parameters import TokenRequest
from service.opening import open_family
from service.registry import Client, Tenant
from service.request import Request
from service.scope import REGISTERED, narrow, parse_resources


async def handle(context: Context, tenant: Tenant, client: Client, request: Request, parameters: TokenRequest) -> bytes:
    """A token response whose subject is the client."""
    if client.rules.token_endpoint_auth_method == "none":
        raise OAuthError("unauthorized_client", "a public client has no credentials of its own (RFC 6749 §4.4)")
    command = partial(
        Issue,
        rules=client.rules,
        client_id=client.client_id,
        sub=client.client_id,
        scope=narrow(parameters.scope, client.rules.scope, REGISTERED),
        audience=parse_resources(parameters.resource) or (tenant.issuer,),
        grant="client_credentials",
        refreshable=False,
    )
    return await open_family(context, tenant, client, request.actor, command, with_id_token=False)
