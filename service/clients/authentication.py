"""Authenticating a client by its request (RFC 6749 §2.3), for callers whose NATS subject does not prove the client.

Every failure has the same error, `invalid_client`, and nothing else of the request is read before.
"""

import base64
import binascii
import hmac
from typing import Any, NamedTuple, TypeAlias, get_args
from urllib.parse import unquote_plus

from events.aggregates import aggregate_names
from events.aggregates.settings import AuthMethod
from service import clock
from service.clients.assertion import ASSERTION_TYPE, Assertion, UsedAssertions, read
from service.context import Context
from service.errors import OAuthError, invalid_client
from service.keys.derived_password import client_password
from service.keys.generated_secret import matches
from service.registry.tenant import Client, Tenant
from service.request import Checked, Request, check

METHODS: tuple[AuthMethod, ...] = get_args(AuthMethod)
WITH_SECRET: tuple[AuthMethod, ...] = ("client_secret_basic", "client_secret_post")
FOR_PUBLIC_CLIENTS = frozenset({"token", "revoke", "device_authorization"})
"""Endpoints that accept a public client by its `client_id` alone. The others need a caller that is authenticated."""
CLIENT_ID_NAMES_ANOTHER_CLIENT = frozenset({"authorize"})
"""Endpoints whose `client_id` parameter names another client than the caller."""
MAX_AUTHORIZATION_CHARACTERS = 4096


class BySecret(NamedTuple):
    """`client_secret_basic` or `client_secret_post`; `method` is None at the broker, which has one way alone."""

    method: AuthMethod | None
    client_id: str
    secret: str


class ByAssertion(NamedTuple):
    """A signed assertion: `private_key_jwt`."""

    client_id: str
    assertion: Assertion


class ByName(NamedTuple):
    """A public client's name: `none`."""

    client_id: str


class ByPassword(NamedTuple):
    """A password at the broker: the client's secret, or what `client_password` computes under `client_key`."""

    client_id: str
    password: str
    client_key: bytes


ClientProof: TypeAlias = BySecret | ByAssertion | ByName | ByPassword


def client_proof(endpoint: str, headers: dict[str, str], parameters: dict[str, Any]) -> ClientProof:
    """The request's one proof of its client.

    Raises `invalid_request` for two proofs or an incomplete one, and `invalid_client` for one that cannot be decoded.
    """
    authorizations = [value for name, value in headers.items() if name.lower() == "authorization"]
    secret = _text(parameters, "client_secret")
    assertion, kind = _text(parameters, "client_assertion"), _text(parameters, "client_assertion_type")
    named = None if endpoint in CLIENT_ID_NAMES_ANOTHER_CLIENT else _text(parameters, "client_id")
    if len(authorizations) + (secret is not None) + (assertion is not None or kind is not None) > 1:
        raise OAuthError(
            "invalid_request", "a client authenticates by one method, not by several (RFC 6749 section 2.3)"
        )
    if (assertion is None) != (kind is None):
        raise OAuthError("invalid_request", "client_assertion and client_assertion_type belong together")
    found: ClientProof
    if authorizations:
        found = _basic(authorizations[0])
    elif assertion is not None:
        found = _assertion(assertion, kind)
    elif named is None:
        raise invalid_client()
    elif secret is not None:
        found = BySecret("client_secret_post", named, secret)
    else:
        found = ByName(named)
    if named not in (None, found.client_id):
        raise invalid_client()
    return found


def _text(parameters: dict[str, Any], name: str) -> str | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, str):
        raise OAuthError("invalid_request", f"the parameter {name} must be a string")
    return value or None  # an empty parameter counts as omitted (RFC 6749 §3.2)


def _basic(authorization: str) -> BySecret:
    """Decode HTTP Basic (RFC 7617), whose id and secret are form-encoded (RFC 6749 §2.3.1)."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic" or len(credentials) > MAX_AUTHORIZATION_CHARACTERS:
        raise invalid_client()
    try:
        client_id, colon, secret = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
        if not colon:
            raise invalid_client()
        return BySecret("client_secret_basic", _decoded(client_id), _decoded(secret))
    except (binascii.Error, ValueError) as error:
        raise invalid_client() from error


def _decoded(text: str) -> str:
    return unquote_plus(text, errors="strict") if "%" in text or "+" in text else text


def _assertion(text: str, kind: str | None) -> ByAssertion:
    assertion = read(text) if kind == ASSERTION_TYPE else None
    if assertion is None:
        raise invalid_client()
    return ByAssertion(assertion.claims.sub, assertion)


class ClientAuthentication:
    """Authenticates the client of each request on `oauth.<tenant>.edge.<endpoint>`."""

    def __init__(self, context: Context, used: UsedAssertions) -> None:
        self._context = context
        self._used = used

    async def authenticate(self, request: Request, endpoint: str) -> Request:
        """The same request, with its authenticated client.

        Raises `invalid_client`, `invalid_request`, `slow_down`, `temporarily_unavailable`, and `Unavailable`.
        """
        proof = client_proof(endpoint, request.headers, check(request.body))
        await self.prove(request.tenant, proof, endpoint)
        return Request(request.tenant, proof.client_id, Checked(request.body), request.headers)

    async def prove(self, tenant_name: str, proof: ClientProof, endpoint: str = "") -> Client:
        """The client, if the proof is right. Raises `invalid_client`, `temporarily_unavailable`, and `Unavailable`.

        A proof that is right by this replica's memory is never refused because of other callers. For every other one
        the log is read, at a rate for the whole tenant; beyond it this raises `slow_down`.
        """
        registry = self._context.registry
        tenant = registry.known_tenant(tenant_name)
        was_known = tenant is not None and proof.client_id in tenant.clients
        if not was_known:
            self._context.rates.look(tenant_name)
        tenant = await registry.tenant(tenant_name)
        client = await registry.client(tenant, proof.client_id) if tenant is not None else None
        holds = await self._holds(endpoint, tenant, client, proof)
        if not holds:
            if was_known:
                self._context.rates.look(tenant_name)
            client = await self._newer(tenant, client)
            holds = client is not None and await self._holds(endpoint, tenant, client, proof)
        if client is None or not holds:
            raise invalid_client()
        return client

    async def _holds(self, endpoint: str, tenant: Tenant | None, client: Client | None, proof: ClientProof) -> bool:
        may = client is not None and not client.state.disabled
        method = client.rules.token_endpoint_auth_method if client is not None and may else None
        match proof:
            case BySecret():
                allowed = WITH_SECRET if proof.method is None else (proof.method,)
                stored = client.state.secret_hash if client is not None and method in allowed else None
                return matches(stored, proof.secret)
            case ByAssertion():
                if tenant is None or client is None or method != "private_key_jwt":
                    return False
                return await self._is_signed(tenant, client, proof.assertion)
            case ByPassword():
                void_until = client.state.void_until if client is not None else None
                name = tenant.name if tenant is not None else ""
                computed = client_password(proof.client_key, name, proof.client_id, void_until)
                is_computed = hmac.compare_digest(proof.password.encode(), computed.encode()) and may
                secret = BySecret(None, proof.client_id, proof.password)
                return await self._holds(endpoint, tenant, client, secret) or is_computed
            case ByName():
                return method == "none" and endpoint in FOR_PUBLIC_CLIENTS

    async def _is_signed(self, tenant: Tenant, client: Client, assertion: Assertion) -> bool:
        audiences = (tenant.issuer, token_endpoint(tenant.name))
        if not assertion.claims.are_good(client.client_id, audiences, clock.now().timestamp()):
            return False
        if client.rules.jwks is None or not assertion.is_signed_by(client.rules.jwks):
            return False
        # last, so that only the client itself can use up its assertions and its rate
        self._context.rates.assertion(client)
        return await self._used.use(tenant.name, client.client_id, assertion.claims.jti)

    async def _newer(self, tenant: Tenant | None, client: Client | None) -> Client | None:
        """The client, if the log has a newer registration than this replica: so a new secret works at once."""
        if tenant is None or client is None:
            return None
        stored = (await self._context.log.head(aggregate_names.client(tenant.name, client.client_id))).stored
        if stored is None or stored.seq <= client.stored.seq:
            return None
        self._context.registry.apply(stored)
        return tenant.clients[client.client_id]


def token_endpoint(tenant: str) -> str:
    """The audience that an assertion may have besides the issuer."""
    return f"nats:oauth.{tenant}.edge.token"
