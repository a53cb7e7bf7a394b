"""What anyone may know about an issuer: its keys (RFC 7517) and its metadata (RFC 8414)."""

import time
from collections.abc import Callable
from typing import Any

import msgspec

from service import clock
from service.clients.assertion import ALGORITHMS
from service.clients.authentication import METHODS
from service.context import Context
from service.endpoints.token import GRANTS
from service.errors import OAuthError
from service.registry.tenant import Tenant
from service.request import Request

KEPT_SECONDS = 1.0
"""A retired key may be told of for so much longer."""
MAX_SCOPES = 64 * 1024
"""Characters of all scopes together that are still told: of very many clients they would fill more than a message."""


async def jwks(context: Context, request: Request) -> bytes:
    """The JWK Set: every key under which a token may live, and the next one before it is used."""
    return _kept("jwks", jwks_of, await _tenant(context, request))


async def metadata(context: Context, request: Request) -> bytes:
    """Authorization server metadata (RFC 8414 §2, RFC 8628 §4)."""
    return _kept("metadata", metadata_of, await _tenant(context, request))


def _kept(what: str, tell: Callable[[Tenant], dict[str, Any]], tenant: Tenant) -> bytes:
    """What is told of the tenant, made at most once for `KEPT_SECONDS` and every change of it or of its clients."""
    until, reply = tenant.public_replies.get(what, (0.0, b""))
    now = time.monotonic()
    if now >= until:
        reply = msgspec.json.encode(tell(tenant))
        tenant.public_replies[what] = now + KEPT_SECONDS, reply
    return reply


def jwks_of(tenant: Tenant) -> dict[str, Any]:
    """The JWK Set as of now (RFC 7517 §5)."""
    return {"keys": [known.key.public_jwk() for known in tenant.published(clock.now())]}


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
