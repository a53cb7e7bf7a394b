"""What anybody may read about an issuer: its keys (RFC 7517), its metadata (RFC 8414), and its subjects (AsyncAPI)."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
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

REPLY_MAX_AGE_SECONDS = 1.0
"""How long a reply is kept: a retired key may stay in it for so much longer."""
ASYNCAPI = Path(__file__).with_name("asyncapi.json")
"""What `heirloom.asyncapi` has made; a test compares the two."""
MAX_SCOPES_CHARACTERS = 64 * 1024
"""Of all scopes together, up to which they are listed. Those of very many clients do not fit a message."""


async def jwks(context: Context, request: Request) -> bytes:
    """The JWK Set: every key whose tokens may be valid, and the next key before it signs. Raises `invalid_request`."""
    return _kept("jwks", jwks_of, await _tenant(context, request))


async def metadata(context: Context, request: Request) -> bytes:
    """The authorization server's metadata (RFC 8414 §2, RFC 8628 §4). Raises `invalid_request`."""
    return _kept("metadata", metadata_of, await _tenant(context, request))


async def asyncapi(context: Context, request: Request) -> bytes:
    """The AsyncAPI document of every subject, the same one for all tenants. Raises `invalid_request`."""
    await _tenant(context, request)
    return document()


@cache
def document() -> bytes:
    """The AsyncAPI document: it is made of the whole service's tables, which are not needed to serve it."""
    return ASYNCAPI.read_bytes()


def _kept(name: str, describe: Callable[[Tenant], dict[str, Any]], tenant: Tenant) -> bytes:
    """The reply, encoded again after `REPLY_MAX_AGE_SECONDS` and after every change of the tenant or its clients."""
    until, reply = tenant.public_replies.get(name, (0.0, b""))
    now = time.monotonic()
    if now >= until:
        reply = msgspec.json.encode(describe(tenant))
        tenant.public_replies[name] = now + REPLY_MAX_AGE_SECONDS, reply
    return reply


def jwks_of(tenant: Tenant) -> dict[str, Any]:
    """The JWK Set as of now (RFC 7517 §5)."""
    return {"keys": [known.key.public_jwk() for known in tenant.published(clock.now())]}


def metadata_of(tenant: Tenant) -> dict[str, Any]:
    """The metadata under RFC 8414's names. Endpoints are NATS subjects; `{client_id}` is the caller's own.

    `scopes_supported` is optional, and left out where it would be longer than `MAX_SCOPES_CHARACTERS`: a part of it
    would mislead.
    """
    own = f"oauth.{tenant.name}.client.{{client_id}}"
    described = {
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
    return described if sum(map(len, scopes)) > MAX_SCOPES_CHARACTERS else described | {"scopes_supported": scopes}


async def _tenant(context: Context, request: Request) -> Tenant:
    tenant = await context.registry.tenant(request.tenant)
    if tenant is None:
        raise OAuthError("invalid_request", "there is no such tenant")
    return tenant


def _scopes(tenant: Tenant) -> set[str]:
    return {value for client in tenant.clients.values() for value in client.rules.scope.split(" ") if value}
