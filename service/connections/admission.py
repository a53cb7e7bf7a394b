"""Who connects to the broker: a client, by one of the proofs that the edge takes too, or by a token of ours.

A role under a name of its own (`service.registry.named_role`) is `<tenant>.role.<name>`, and its password its secret.

A client's user is `<tenant>.<client_id>`, and its password one of: its client secret, a signed assertion
(`private_key_jwt`, RFC 7523), an access token, or what `heirloom url` made. An access token may also come alone, as the
NATS token.
"""

import hashlib
import hmac
import re
from typing import NamedTuple

import msgspec

from events import base64url
from events.aggregates import subjects
from events.aggregates.family import is_of_a_person
from events.aggregates.role import codec
from service.access_tokens.recognise import active_in
from service.clients.assertion import read
from service.clients.authentication import ByAssertion, ByPassword, ClientAuthentication
from service.connections.token_connections import TokenConnection
from service.context import Context
from service.errors import invalid_client
from service.keys.derived_password import client_password
from service.keys.generated_secret import matches
from service.registry.named_role import NamedRole, as_client

MAX_PROOF = 8192
PASSWORD = 43
"""Characters of a secret of ours, and of what is computed; a token of ours, or anybody's assertion, has more."""
ONE_WORD = re.compile(r"[A-Za-z0-9_-]+")
"""What is one token of a subject, and no wildcard."""
PROBE = ("-", "doors")
"""A client of no tenant: the service tries as that one, before it serves, what the broker lets every client do."""


class ConnectOptions(msgspec.Struct):
    """What the connection was opened with."""

    user: str = ""
    password: str = msgspec.field(default="", name="pass")
    auth_token: str = ""


class Admitted(NamedTuple):
    """The client, by which token if by one, and the names of the inboxes below the client's that are its own alone.

    Or a `role` under a name of its own, and then no client.

    Without any it speaks for itself, and the client's inbox is its own. Who holds a person's token is not the client:
    others see that token too, and must not receive what the client is given.
    """

    tenant: str
    client_id: str
    token_connection: TokenConnection | None = None
    inboxes: tuple[str, ...] = ()
    role: NamedRole | None = None
    asserted: int = 0
    """The sequence of the registration by which its assertion held; 0 where it showed something else."""

    @property
    def counted(self) -> str:
        """As whom its connections are counted: a client, a role, or a person, who takes none of his client's."""
        return self.token_connection.person if self.token_connection is not None and self.inboxes else self.client_id


class Admission:
    """The one registry's answer to the broker. `client_key` makes the passwords of `heirloom url`."""

    def __init__(self, context: Context, authentication: ClientAuthentication, client_key: bytes) -> None:
        self._context = context
        self._authentication = authentication
        self._client_key = client_key

    async def admit(self, offered: ConnectOptions) -> Admitted:
        """Raises `invalid_client`, whatever is wrong, `slow_down`, `temporarily_unavailable`, and `Unavailable`."""
        self._context.skew.require()
        tenant, _, client_id = offered.user.partition(".")
        proof = offered.password or offered.auth_token
        if len(proof) > MAX_PROOF:
            raise invalid_client()
        if not offered.user:
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
        elif len(proof) > PASSWORD and (proof.startswith("hat_") or proof.count(".") == 2):
            return await self._by_token(tenant, client_id, proof)
        client = await self._authentication.prove(tenant, presented)
        return Admitted(tenant, client_id, asserted=client.stored.seq if assertion else 0)

    async def confirm(self, offered: ConnectOptions, admitted: Admitted) -> None:
        """Return if who was admitted a while ago still is. Raises as `admit`.

        An assertion is good once, so the registration by which it held must be the one there is: the client may have
        been disabled since, and enabled.
        """
        if not admitted.asserted:
            await self.admit(offered)
            return
        _, client = await self._context.caller(admitted.tenant, admitted.client_id)
        if client.stored.seq != admitted.asserted:
            raise invalid_client()

    def _as_probe(self, proof: str) -> Admitted:
        if not hmac.compare_digest(proof.encode(), client_password(self._client_key, *PROBE).encode()):
            raise invalid_client()
        return Admitted(*PROBE)

    async def _by_role(self, tenant: str, name: str, secret: str) -> Admitted:
        """As the log has it at this moment: what was revoked lets nobody in, on any replica.

        Who is right by what is known here never waits for others' guesses.
        """
        if not subjects.TENANT.fullmatch(tenant) or not subjects.ROLE_NAME.fullmatch(name):
            raise invalid_client()
        known = self._context.registry.roles(tenant).get(name)
        if not matches(known.state.secret_hash if known is not None and not known.state.revoked else None, secret):
            self._context.door.look(tenant)
        stored = await self._context.log.last_from_leader(subjects.role(tenant, name))
        state = codec.decode(stored.body).state if stored is not None else None
        kept = state.secret_hash if state is not None and not state.revoked else None
        if not matches(kept, secret) or state is None:
            raise invalid_client()
        named = NamedRole(tenant, name, state.role)
        return Admitted(tenant, as_client(name), role=named)

    async def _by_token(self, tenant_name: str, client_id: str | None, token: str) -> Admitted:
        """An access token for us alone: one that others are meant to see could be shown here by them."""
        if self._context.registry.known_tenant(tenant_name) is None:
            self._context.door.look(tenant_name)
        tenant = await self._context.registry.tenant(tenant_name)
        found = await active_in(self._context, tenant, token) if tenant is not None else None
        if tenant is None or found is None:
            raise invalid_client()
        claims, family = found
        if client_id not in (None, claims.client_id) or claims.actors or claims.audience != (tenant.issuer,):
            raise invalid_client()
        # the grant tells, not the subject: a person may be called as the client is
        inboxes = (claims.jti, digest(token)) if is_of_a_person(family) else ()
        if not all(map(ONE_WORD.fullmatch, inboxes)):
            raise invalid_client()
        token_connection = TokenConnection(tenant.name, claims.client_id, claims.sid, claims.jti, claims.exp)
        return Admitted(tenant.name, claims.client_id, token_connection, inboxes)

    def _issuer_of(self, token: str) -> str:
        """The name of the tenant whose token this claims to be; empty for none."""
        issuer = _claimed_issuer(token)
        return next((tenant.name for tenant in self._context.registry.tenants() if tenant.issuer == issuer), "")


def digest(token: str) -> str:
    """What an inbox is called for a token that does not say its `jti`: whoever holds it can make the same."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def _claimed_issuer(token: str) -> str | None:
    payload = token.split(".")[1:2]
    try:
        return msgspec.json.decode(base64url.decode(payload[0].encode("ascii")), type=_Issued).iss
    except (IndexError, ValueError, RecursionError):
        return None


class _Issued(msgspec.Struct):
    iss: str
