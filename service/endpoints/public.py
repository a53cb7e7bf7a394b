"""What anyone may know about an issuer: its keys (RFC 7517) and its metadata (RFC 8414)."""

import msgspec

from service import clock
from service.client_assertion import ALGORITHMS
from service.client_authentication import METHODS
from service.context import Context
from service.endpoints.token import GRANTS
from service.errors import OAuthError
from service.registry import Tenant
from service.request import Request


async def jwks(context: Context, request: Request) -> bytes:
    """The JWK Set: every key under which a token may live, and the next one before it is used."""
    tenant = await _tenant(context, request)
    return msgspec.json.encode({"keys": [known.key.public_jwk() for known in tenant.published(clock.now())]})


async def metadata(context: Context, request: Request) -> bytes:
    """Authorization server metadata (RFC 8414 §2, RFC 8628 §4).

    Endpoints are NATS subjects; `{client_id}` is the caller's own.
    """
    tenant = await _tenant(context, request)
    own = f"oauth.{tenant.name}.client.{{client_id}}"
    return msgspec.json.encode(
        {
            "issuer": tenant.issuer,
            "token_endpoint": f"nats:{own}.token",
            "revocation_endpoint": f"nats:{own}.revoke",
            "introspection_endpoint": f"nats:{own}.introspect",
            "device_authorization_endpoint": f"nats:{own}.device_authorization",
            "jwks_uri": f"nats:oauth.{tenant.name}.public.jwks",
            "token_endpoint_auth_methods_supported": METHODS,
            "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
            "grant_types_supported": list(GRANTS),
            "response_types_supported": [],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": sorted(_scopes(tenant)),
        }
    )


async def _tenant(context: Context, request: Request) -> Tenant:
    tenant = await context.registry.tenant(request.tenant)
    if tenant is None:
        raise OAuthError("invalid_request", "there is no such tenant")
    return tenant


def _scopes(tenant: Tenant) -> set[str]:
    return {value for client in tenant.clients.values() for value in client.rules.scope.split(" ") if value}
