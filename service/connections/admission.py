"""Admission to the broker: which client or role a connection is of, by its user name and password.

A client's user name is `<tenant>.<client_id>`. Its password is its client secret, a signed assertion
(`private_key_jwt`, RFC 7523), an access token, or the password that `heirloom url` prints. An access token may come
without a user name, as the NATS token. A named role (`service.registry.named_role`) has the user name
`<tenant>.role.<name>`, and its secret as its password.
"""

import hashlib
import hmac
import re
from typing import NamedTuple

import msgspec

from events import base64url
from events.aggregates import aggregate_names
from events.aggregates.family import is_of_a_person
from events.aggregates.role import RoleState
from service.access_tokens.recognise import active_in
from service.clients.assertion import read
from service.clients.authentication import ByAssertion, ByPassword, ClientAuthentication
from service.connections.token_connections import TokenConnection
from service.context import Context
from service.errors import invalid_client
from service.keys.derived_password import client_password
from service.keys.generated_secret import matches
from service.registry.named_role import NamedRole, as_client

MAX_PROOF_CHARACTERS = 8192
PASSWORD_CHARACTERS = 43
"""Of a generated secret and of a computed password; our tokens, and all assertions, are longer."""
ONE_WORD = re.compile(r"[A-Za-z0-9_-]+")
"""One part of a NATS subject that is no wildcard."""
PROBE = ("-", "doors")
"""A client of no tenant, with which the service tests the broker's permissions before it serves."""


class ConnectOptions(msgspec.Struct):
    """The credentials that the connection was opened with."""

    user: str = ""
    password: str = msgspec.field(default="", name="pass")
    auth_token: str = ""


class Admitted(NamedTuple):
    """An admitted connection: of a client, or of a named `role`, which then stands in the place of a client.

    `token_connection` is set if an access token opened it. `inboxes` are the names, below the client's inbox, of those
    that the holder of a person's token may use: others see such a token too, and must not receive the client's replies.
    They are empty for the client itself, which uses its own inbox. `asserted` is the sequence of the registration by
    which its assertion was checked; 0 for another proof.
    """

    tenant: str
    client_id: str
    token_connection: TokenConnection | None = None
    inboxes: tuple[str, ...] = ()
    role: NamedRole | None = None
    asserted: int = 0

    @property
    def counted(self) -> str:
        """The name under which it is counted: of a client, a role, or a person apart from its client."""
        return self.token_connection.person if self.token_connection is not None and self.inboxes else self.client_id


class Admission:
    """Decides whether a connection is admitted. `client_key` is the key of `heirloom url`'s passwords."""

    def __init__(self, context: Context, authentication: ClientAuthentication, client_key: bytes) -> None:
        self._context = context
        self._authentication = authentication
        self._client_key = client_key

    async def admit(self, options: ConnectOptions) -> Admitted:
        """Admit a connection.

        Raises `invalid_client` for every wrong proof, `slow_down`, `temporarily_unavailable`, and `Unavailable`.
        """
        self._context.skew.require()
        tenant, _, client_id = options.user.partition(".")
        proof = options.password or options.auth_token
        if len(proof) > MAX_PROOF_CHARACTERS:
            raise invalid_client()
        if not options.user:
            return await self._by_token(self._issuer_of(proof), None, proof)
        if client_id.startswith("role."):
            return await self._by_role(tenant, client_id.removeprefix("role."), proof)
        if (tenant, client_id) == PROBE:
            return self._as_probe(proof)
        presented: ByAssertion | ByPassword = ByPassword(client_id, proof, self._client_key)
        assertion = read(proof)
        if assertion is not None:
            if assertion.claims.sub != client_id:
                raise invalid_client()
            presented = ByAssertion(client_id, assertion)
        elif len(proof) > PASSWORD_CHARACTERS and (proof.startswith("hat_") or proof.count(".") == 2):
            return await self._by_token(tenant, client_id, proof)
        client = await self._authentication.prove(tenant, presented)
        return Admitted(tenant, client_id, asserted=client.stored.seq if assertion else 0)

    async def confirm(self, options: ConnectOptions, admitted: Admitted) -> None:
        """Check again a connection that was admitted a while ago. Raises as `admit` does.

        An assertion cannot be used again, so its client's registration must not have changed: the client may have been
        disabled and enabled meanwhile.
        """
        if not admitted.asserted:
            await self.admit(options)
            return
        caller = await self._context.caller(admitted.tenant, admitted.client_id)
        if caller.client.stored.seq != admitted.asserted:
            raise invalid_client()

    def _as_probe(self, proof: str) -> Admitted:
        if not hmac.compare_digest(proof.encode(), client_password(self._client_key, *PROBE).encode()):
            raise invalid_client()
        return Admitted(*PROBE)

    async def _by_role(self, tenant: str, name: str, secret: str) -> Admitted:
        """Admit a named role by the log's newest commit, so that a revoked secret is refused on every replica.

        A secret that is right by this replica's memory never waits because of others' guesses.
        """
        if not aggregate_names.TENANT.fullmatch(tenant) or not aggregate_names.ROLE_NAME.fullmatch(name):
            raise invalid_client()
        known = self._context.registry.roles(tenant).get(name)
        if not matches(known.state.secret_hash if known is not None and not known.state.revoked else None, secret):
            self._context.rates.look(tenant)
        head = await self._context.log.head(aggregate_names.role(tenant, name))
        state: RoleState | None = head.commit.state if head.commit is not None else None
        secret_hash = state.secret_hash if state is not None and not state.revoked else None
        if not matches(secret_hash, secret) or state is None:
            raise invalid_client()
        named = NamedRole(tenant, name, state.role)
        return Admitted(tenant, as_client(name), role=named)

    async def _by_token(self, tenant_name: str, client_id: str | None, token: str) -> Admitted:
        """Admit by an access token whose only audience is us: other audiences could present it here."""
        if self._context.registry.known_tenant(tenant_name) is None:
            self._context.rates.look(tenant_name)
        tenant = await self._context.registry.tenant(tenant_name)
        found = await active_in(self._context, tenant, token) if tenant is not None else None
        if tenant is None or found is None:
            raise invalid_client()
        claims = found.claims
        if client_id not in (None, claims.client_id) or claims.actors or claims.audience != (tenant.issuer,):
            raise invalid_client()
        # by the grant, not by `sub`: a person may have the client's name
        inboxes = (claims.jti, digest(token)) if is_of_a_person(found.family) else ()
        if not all(map(ONE_WORD.fullmatch, inboxes)):
            raise invalid_client()
        token_connection = TokenConnection(tenant.name, claims.client_id, claims.sid, claims.jti, claims.exp)
        return Admitted(tenant.name, claims.client_id, token_connection, inboxes)

    def _issuer_of(self, token: str) -> str:
        """The name of the tenant that the token claims as its issuer; empty for none."""
        issuer = _claimed_issuer(token)
        return next((tenant.name for tenant in self._context.registry.tenants() if tenant.issuer == issuer), "")


def digest(token: str) -> str:
    """The name of a token's inbox besides its `jti`, which an opaque token does not show to its holder."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def _claimed_issuer(token: str) -> str | None:
    payload = token.split(".")[1:2]
    try:
        return msgspec.json.decode(base64url.decode(payload[0].encode("ascii")), type=_Issued).iss
    except (IndexError, ValueError, RecursionError):
        return None


class _Issued(msgspec.Struct):
    iss: str
