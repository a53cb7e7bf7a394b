"""The OAuth client: each endpoint of the contract's section 2 is a method, under its RFC's name."""

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeAlias, TypedDict, Unpack, overload

from heirloom_client.connections import Connections
from heirloom_client.credentials import PrivateKey, by_access_token, by_private_key, by_secret, by_url
from heirloom_client.device import Device
from heirloom_client.endpoint import Endpoints
from heirloom_client.stores import MemoryStore, Store
from heirloom_client.token_source import TokenSource
from heirloom_client.tokens import Code, DeviceAuthorization, Introspection, Tokens
from heirloom_client.verification.resource import Resource, addresses_of

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
REQUEST_SECONDS = 10.0

Several: TypeAlias = str | Sequence[str] | None
"""One, several or none: of resources (RFC 8707) or audiences (RFC 8693)."""


class Person(TypedDict, total=False):
    """How and when the person was authenticated (OpenID Connect Core §2); `auth_time` is a NumericDate."""

    acr: str
    amr: Sequence[str]
    auth_time: int
    nonce: str


class Client:
    """A client of one tenant. Connects when it is first used; `async with` closes it at the end.

    One client may be shared by all tasks, threads and event loops of a process, and is good after a fork.
    """

    def __init__(self, connections: Connections, tenant: str, client_id: str, seconds: float) -> None:
        self.tenant = tenant
        self.client_id = client_id
        self._connections = connections
        self._own = Endpoints(connections, f"oauth.{tenant}.client.{client_id}", seconds)
        self._public = Endpoints(connections, f"oauth.{tenant}.public", seconds)

    @overload
    @classmethod
    def connect(
        cls,
        url: str | Sequence[str],
        *,
        tenant: str,
        client_id: str,
        secret: str | None = None,
        private_key: PrivateKey | None = None,
        access_token: Callable[[], Awaitable[str]] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> Self: ...

    @overload
    @classmethod
    def connect(
        cls,
        url: str | Sequence[str],
        *,
        tenant: str,
        tls: ssl.SSLContext | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> Resource: ...

    @classmethod
    def connect(  # noqa: PLR0913  # a connection's options, each by its name
        cls,
        url: str | Sequence[str],
        *,
        tenant: str,
        client_id: str | None = None,
        secret: str | None = None,
        private_key: PrivateKey | None = None,
        access_token: Callable[[], Awaitable[str]] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> Self | Resource:
        """A client of the service at `url`: one address, several, or several in one text with commas.

        Its credentials are one of: `secret`; `private_key`, with which it signs an assertion for each connection
        (`private_key_jwt`); `access_token`, called for each connection; or what the URL holds. `timeout` is how many
        seconds a request may take, with the connecting that it needs. Without a `client_id` it is a resource server:
        the URL holds its role's credentials (see `Verifier`). Raises `ValueError` for two kinds of credentials.
        """
        addresses = addresses_of(url)
        if client_id is None:
            return Resource(Connections(addresses, by_url(addresses[0]), f"{tenant}/resource", tls), tenant, timeout)
        if sum(given is not None for given in (secret, private_key, access_token)) > 1:
            raise ValueError("give one of secret, private_key and access_token")
        if private_key is not None:
            credential = by_private_key(tenant, client_id, private_key)
        elif access_token is not None:
            credential = by_access_token(tenant, client_id, access_token)
        else:
            credential = by_secret(tenant, client_id, secret)
        return cls(Connections(addresses, credential, f"{tenant}/{client_id}", tls), tenant, client_id, timeout)

    async def __aenter__(self) -> Self:
        """Open the connection. Raises `InvalidClient` and `Unavailable`."""
        await self._own.link()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the running event loop's connection."""
        await self._connections.close()

    async def issue(self, sub: str, scope: str, *, resource: Several = None, **person: Unpack[Person]) -> Tokens:
        """Tokens for a person whom the caller has authenticated itself. The client needs `may_issue`."""
        parameters = {"sub": sub, "scope": scope, "resource": resource, **person}
        return await self._own.ask("issue", parameters, Tokens, again=False)

    async def refresh(
        self,
        refresh_token: str,
        *,
        scope: str | None = None,
        resource: Several = None,
        idempotency_key: str | None = None,
    ) -> Tokens:
        """The successor of a refresh token (RFC 6749 §6), which is used up by that. See also `source`.

        With an `idempotency_key` the same request may be repeated, and gets the same answer, until the successor is
        presented.
        """
        parameters = {"refresh_token": refresh_token, "scope": scope, "resource": resource}
        return await self._token("refresh_token", parameters, key=idempotency_key)

    async def redeem(self, code: str, code_verifier: str, redirect_uri: str | None = None) -> Tokens:
        """The tokens for an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
        parameters = {"code": code, "code_verifier": code_verifier, "redirect_uri": redirect_uri}
        return await self._token("authorization_code", parameters)

    async def client_credentials(self, scope: str | None = None, *, resource: Several = None) -> Tokens:
        """An access token of the client's own (RFC 6749 §4.4)."""
        return await self._token("client_credentials", {"scope": scope, "resource": resource}, again=True)

    async def exchange(
        self, subject_token: str, *, scope: str | None = None, resource: Several = None, audience: Several = None
    ) -> Tokens:
        """An access token for a person whose access token the client was shown (RFC 8693 §2)."""
        parameters = {"subject_token": subject_token, "subject_token_type": ACCESS_TOKEN}
        wanted = {"scope": scope, "resource": resource, "audience": audience}
        return await self._token(TOKEN_EXCHANGE, parameters | wanted, again=True)

    async def authorize(
        self,
        client_id: str,
        sub: str,
        scope: str,
        code_challenge: str,
        redirect_uri: str | None = None,
        **more: Unpack[Person],
    ) -> Code:
        """A code for another client, by a login service (RFC 6749 §4.1.1). The caller needs `may_authorize`."""
        parameters = {
            "client_id": client_id,
            "sub": sub,
            "scope": scope,
            "redirect_uri": redirect_uri,
            "code_challenge": code_challenge,
            "code_challenge_method": "S256",
        }
        return await self._own.ask("authorize", parameters | more, Code, again=False)

    async def answer_device(
        self, user_code: str, sub: str, *, approved: bool, scope: str | None = None, **more: Unpack[Person]
    ) -> None:
        """A person's answer to a device (RFC 8628 §3.3), by a login service. Raises `InvalidGrant` for a wrong code."""
        parameters = {"user_code": user_code, "sub": sub, "approved": approved, "scope": scope, **more}
        await self._own.ask("authorize", parameters, dict[str, Any], again=False)

    async def device(self, scope: str | None = None, *, resource: Several = None) -> Device:
        """Start the device flow (RFC 8628 §3.1)."""
        parameters = {"scope": scope, "resource": resource}
        started = await self._own.ask("device_authorization", parameters, DeviceAuthorization)

        async def poll(device_code: str) -> Tokens:
            return await self._token(DEVICE_CODE, {"device_code": device_code}, again=True)

        return Device(started, poll)

    async def revoke(self, token: str, *, hint: str | None = None) -> None:
        """Revoke a refresh token with its family, or one access token (RFC 7009). Unknown tokens are no error."""
        await self._own.ask("revoke", {"token": token, "token_type_hint": hint}, dict[str, Any])

    async def introspect(self, token: str, *, hint: str | None = None) -> Introspection:
        """Whether a token is active, and whose it is (RFC 7662)."""
        parameters = {"token": token, "token_type_hint": hint}
        answer = await self._own.ask("introspect", parameters, dict[str, Any])
        return Introspection(answer.pop("active", None) is True, answer)

    async def metadata(self) -> dict[str, Any]:
        """The tenant's metadata (RFC 8414 §2)."""
        return await self._public.ask("metadata", {}, dict[str, Any])

    def source(self, first: Tokens | None = None, *, store: Store | None = None) -> TokenSource:
        """Access tokens of one family, refreshed in time: `await source.token()`.

        `first` begins the family, and replaces what the store holds of another when the first access token is taken;
        without it the store's is continued.
        All sources of one store share what they get. Raises `ValueError` if `first` has no refresh token.
        """
        return TokenSource(self._own, store if store is not None else MemoryStore(), first)

    async def _token(
        self, grant_type: str, parameters: Mapping[str, Any], *, key: str | None = None, again: bool = False
    ) -> Tokens:
        request = {"grant_type": grant_type, **parameters}
        return await self._own.ask("token", request, Tokens, key=key, again=again or key is not None)

    def __repr__(self) -> str:
        return f"Client(tenant={self.tenant!r}, client_id={self.client_id!r})"
