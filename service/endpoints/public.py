"""What anyone may know about an issuer: its keys (RFC 7517) and its metadata (RFC 8414)."""

from typing import Any

import msgspec

from service import clock
from service.client_assertion import ALGORITHMS
from service.client_authentication import METHODS
from service.context import Context
from service.endpoints.token import GRANTS
from service.errors import OAuthError
from service.registry import Tenant
from service.request import Request

MAX_SCOPES = 64 * 1024
"""Characters of all scopes together that are still told: of very many clients they would fill more than a message."""


async def jwks(context: Context, request: Request) -> bytes:
    """The JWK Set: every key under which a token may live, and the next one before it is used."""
    tenant = await _tenant(context, request)
    return msgspec.json.encode({"keys": [known.key.public_jwk() for known in tenant.published(clock.now())]})


async def metadata(context: Context, request: Request) -> bytes:
    """Authorization server metadata (RFC 8414 §2, RFC 8628 §4)."""
    return msgspec.json.encode(metadata_of(await _tenant(context, request)))


def metadata_of(tenant: Tenant) -> dict[str, Any]:
    """The metadata by RFC 8414's names. Endpoints are NATS subjects; `{client_id}` is the caller's own.

    `scopes_supported` may be left out, and is where there are more than `MAX_SCOPES`: some of them would mislead.
    """
    own = f"oauth.{tenant.name}.client.{{client_id}}"
    told = {
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
    }
    scopes = sorted(_scopes(tenant))
    return told if sum(map(len, scopes)) > MAX_SCOPES else told | {"scopes_supported": scopes}


async def _tenant(context: Context, request: Request) -> Tenant:
    tenant = await context.registry.tenant(request.tenant)
    if tenant is None:
        raise OAuthError("invalid_request", "there is no such tenant")
    return tenant


def _scopes(tenant: Tenant) -> set[str]:
    return {value for client in tenant.clients.values() for value in client.rules.scope.split(" ") if value}
