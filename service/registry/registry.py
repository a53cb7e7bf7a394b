"""What every replica holds in memory: tenants with their signing keys, and clients with their rules.

Fed from the log in order; the log has it before anybody is told so. Whoever is missing here is looked up in the log
before he is refused, and so is everybody while this replica cannot tell how old its memory is
(`service.replicas.leases`).
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from events.aggregates import client as client_events
from events.aggregates import key as key_events
from events.aggregates import role as role_events
from events.aggregates import subjects
from events.aggregates import tenant as tenant_events
from events.aggregates.settings import ClientSettings, TenantSettings
from events.aggregates.subjects import AggregateName
from events.bus.connection import Connection
from events.fairness.token_buckets import Bucket
from events.log.consumer_reader import read
from events.log.grammar import Foreign, aggregate_on, read_commit
from events.log.log import Head, Log, Unavailable
from events.log.stored_commit import Stored
from service.clock import FOR_EVER
from service.decide.policy import Rules, resolve
from service.keys.keyring import Keyring
from service.keys.mac_tokens import Tokens
from service.keys.signing_key import SigningKey
from service.keys.vouchers import Vouchers
from service.registry.blocked_subjects import Subjects
from service.registry.named_role import TenantRole, as_client, bound_of_role

log = logging.getLogger("heirloom.registry")

LEEWAY_SECONDS = 60
"""How long a retired key stays published beyond its last token's end, for clocks that differ."""
AGAIN_SECONDS = 0.2
"""Between two attempts to read under a foreign message."""
LEASE_SECONDS = 3.0
"""How long after it was certainly current the memory may be decided on (`service.replicas.leases`)."""


class Tenant:
    """One issuer: its settings, its keys, its way with tokens."""

    def __init__(self, name: str, keyring: Keyring) -> None:
        self.name = name
        self.settings = TenantSettings()
        self.configured: Stored | None = None
        self.keys: dict[str, TenantKey] = {}
        self.signing: SigningKey | None = None
        self.refresh_tokens = Tokens(keyring, name, "refresh")
        self.codes = Tokens(keyring, name, "code")
        self.device_codes = Tokens(keyring, name, "device")
        self.opaque_tokens = Tokens(keyring, name, "access")
        self.vouchers = Vouchers(keyring, name)
        self.clients: dict[str, Client] = {}
        self.roles: dict[str, TenantRole] = {}
        self.longest_ttl = 0
        """Seconds. The longest that any access token of the tenant's was ever given."""
        self.mac_key = keyring.first
        self.from_edges, self.public, self.looked_for = Bucket(), Bucket(), Bucket()
        """The rates of what is asked before it is known who asks (`service.request_rates`)."""
        self.public_replies: dict[str, tuple[float, bytes]] = {}
        """What anyone is told, for as long as it is surely that (`service.endpoints.discovery`)."""

    @property
    def issuer(self) -> str:
        """The `iss` of every token."""
        return self.settings.issuer or f"urn:heirloom:{self.name}"

    def next_key(self) -> "TenantKey | None":
        """The key that will sign after the active ones: it ranks above each of them."""
        following = max(self.keys_that_are("next"), key=TenantKey.rank, default=None)
        active = max(self.keys_that_are("active"), key=TenantKey.rank, default=None)
        return None if following is None or (active is not None and following.rank() < active.rank()) else following

    def keys_that_are(self, status: str) -> "list[TenantKey]":
        """`next`, `active` or `retired` ones."""
        return [known for known in self.keys.values() if known.state.status == status]

    def published(self, now: datetime) -> "list[TenantKey]":
        """What the JWKS shows: a retired key for as long as a token under it may live."""
        lived = timedelta(seconds=self.longest_ttl + LEEWAY_SECONDS)
        return [known for known in self.keys.values() if known.state.status != "retired" or now < known.at + lived]

    def rules_of(self, settings: ClientSettings) -> Rules:
        """What holds for a client with that registration. Its tokens may always be for the issuer."""
        rules = resolve(self.settings, settings)
        return msgspec.structs.replace(rules, audiences=(self.issuer, *rules.audiences))

    def record_token_lifetimes(self, *lifetimes: int | None) -> None:
        """So many seconds access tokens were, or may be, given. None is no lifetime."""
        self.longest_ttl = max([self.longest_ttl, *(ttl for ttl in lifetimes if ttl is not None)])


class TenantKey(NamedTuple):
    """A signing key, and since when (`at`) it stands where it stands."""

    key: SigningKey
    state: key_events.KeyState
    at: datetime
    seq: int

    def rank(self) -> tuple[int, int, str]:
        """Of several active keys the one of the highest rank signs, on every replica."""
        return self.state.number, self.state.secret, self.key.kid


class Client(msgspec.Struct):
    """One registration, with the rules that follow from it and its tenant's settings."""

    client_id: str
    state: client_events.ClientState
    rules: Rules
    stored: Stored
    bucket: Bucket = msgspec.field(default_factory=Bucket)
    persons: Bucket = msgspec.field(default_factory=Bucket)
    assertions: Bucket = msgspec.field(default_factory=Bucket)

    @property
    def void_until(self) -> datetime | None:
        """A connection that was begun before has no right to be."""
        return FOR_EVER if self.state.disabled else self.state.void_until


class KeyMismatch(Exception):
    """The log names a signing key this keyring does not make: it is not the keyring of this log."""


class Registry:
    """Tenants and clients as of the newest registry commit this replica has seen.

    `current_as_of` is a moment (of the event loop's clock) as of which nothing was missing here. `when_voided` receives
    tenant and client_id of every client that is disabled, or was since it was last known here; and a role's, as
    `named_role` has it, that is revoked or was.
    """

    def __init__(self, log: Log, keyring: Keyring) -> None:
        self._log = log
        self._keyring = keyring
        self._tenants: dict[str, Tenant] = {}
        self.subjects = Subjects(log)
        self.current_as_of = float("-inf")
        self.when_voided: Callable[[str, str], None] = lambda _tenant, _client_id: None
        self._followed = 0
        self._progress = asyncio.Condition()
        self.ready = asyncio.Event()

    def tenants(self) -> list[Tenant]:
        """Those that are configured."""
        return [tenant for tenant in self._tenants.values() if tenant.configured is not None]

    def void_until(self, tenant: str, client_id: str) -> datetime | None:
        """Connections of that client or role that were begun before have no right to be, as far as is known here."""
        known = self._tenants.get(tenant)
        if known is None:
            return None
        role = as_client("")
        of_role = known.roles.get(client_id.removeprefix(role)) if client_id.startswith(role) else None
        one = of_role or known.clients.get(client_id)
        return one.void_until if one is not None else None

    def roles(self, tenant: str) -> dict[str, TenantRole]:
        """The tenant's, by name, as far as they are known here; revoked ones too."""
        known = self._tenants.get(tenant)
        return known.roles if known is not None else {}

    def max_connections(self, tenant: str, client_id: str) -> int | None:
        """How many connections that client, or role, may have, as far as is known here."""
        if (of_role := bound_of_role(tenant, client_id)) is not None:
            return of_role
        known = self._tenants.get(tenant)
        client = known.clients.get(client_id) if known is not None else None
        return client.rules.max_connections if client is not None else None

    def known_tenant(self, name: str) -> Tenant | None:
        """The tenant, from memory alone."""
        return self._tenants.get(name)

    async def tenant(self, name: str) -> Tenant | None:
        """The tenant, from memory or else from the log's leader. Raises `Unavailable`."""
        tenant = self._tenants.get(name)
        if tenant is not None and tenant.configured is not None and tenant.signing is not None and self.is_current():
            return tenant
        if not subjects.TENANT.fullmatch(name):
            return None
        stored = await self._log.last_from_leader(subjects.tenant(name))
        if stored is None:
            return None
        self.apply(stored)
        await self.know_keys(name)
        return self._tenants[name]

    async def know_keys(self, tenant: str) -> None:
        """Return when every key that the tenant has in the log is known here. Raises `Unavailable`."""
        newest = await self._log.newest(subjects.key(tenant, "*").filter)
        if newest is None:
            return
        await self.caught_up(newest.seq)  # the newest commit alone may be about a key that does not sign

    async def caught_up(self, seq: int) -> None:
        """As `reach`, for a while. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(LEASE_SECONDS):
                await self.wait_until_applied(seq)
        except TimeoutError as error:
            raise Unavailable("this replica is behind the log") from error

    async def client(self, tenant: Tenant, client_id: str) -> Client | None:
        """The client, from memory or else from the log's leader. Raises `Unavailable`."""
        client = tenant.clients.get(client_id)
        if (client is not None and self.is_current()) or not subjects.CLIENT_ID.fullmatch(client_id):
            return client
        stored = await self._log.last_from_leader(subjects.client(tenant.name, client_id))
        if stored is not None:
            self.apply(stored)
        return tenant.clients.get(client_id)

    async def follow(self, connection: Connection, failed: Callable[[BaseException], None]) -> None:
        """Apply every registry commit, for ever; `ready` is set when what lay in the log at the start is applied.

        `failed` hears of whatever ends this: `UnreadableCommit`, `KeyMismatch`, `KeyringError`, or what nobody foresaw.
        """
        try:
            async for batch in read(connection, filters=subjects.REGISTRY, last_per_subject=True):
                for stored in batch.commits:
                    await self._take(stored)
                if batch.commits:
                    async with self._progress:
                        self._followed = batch.commits[-1].seq
                        self._progress.notify_all()
                if batch.pending == 0:
                    self.ready.set()
        except Exception as error:
            failed(error)  # to go on with what is not understood would be to decide on a guess

    async def _take(self, stored: Stored) -> None:
        """Apply what lies in the log. Under a foreign message, that may be its aggregate's last commit."""
        if not isinstance(read_commit(stored), Foreign):
            self.apply(stored)
            return
        aggregate = aggregate_on(stored.subject)
        while aggregate is not None:
            try:
                head = await self._log.head(aggregate)
            except Unavailable:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if head.stored is not None:
                self.apply(head.stored)
            name = AggregateName.parse(stored.subject)
            if name.kind == "subject":
                self.subjects.apply(name.tenant, name.id, head)  # a family may begin on what lies there now
            return

    async def wait_until_applied(self, seq: int) -> None:
        """Return when every registry commit up to `seq` is applied; `seq` is one, or 0."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._followed >= seq)

    def is_current(self) -> bool:
        """Whether what is in memory may be decided on without asking the log."""
        return asyncio.get_running_loop().time() < self.current_as_of + LEASE_SECONDS

    def apply(self, stored: Stored) -> None:
        """Take in one registry commit; older ones than what is known are passed over.

        Raises `UnreadableCommit`, `KeyMismatch` and `KeyringError`.
        """
        commit = read_commit(stored)
        if isinstance(commit, Foreign):
            return
        name = AggregateName.parse(stored.subject)
        tenant = self._tenants.get(name.tenant)
        if tenant is None:
            tenant = self._tenants[name.tenant] = Tenant(name.tenant, self._keyring)
        tenant.public_replies.clear()
        match name.kind:
            case "tenant":
                self._apply_tenant(tenant, stored)
            case "client":
                self._apply_client(tenant, name.id, stored)
            case "key":
                self._apply_key(tenant, name.id, stored)
            case "subject":
                self.subjects.apply(name.tenant, name.id, Head(stored, commit, stored.seq))
            case "role":
                self._apply_role(tenant, name.id, stored)

    def _apply_tenant(self, tenant: Tenant, stored: Stored) -> None:
        if tenant.configured is not None and tenant.configured.seq >= stored.seq:
            return
        state = tenant_events.codec.decode(stored.body).state
        tenant.settings = state.settings
        tenant.configured = stored
        tenant.record_token_lifetimes(state.longest_ttl, tenant.rules_of(ClientSettings()).access_token_ttl)
        for client in tenant.clients.values():
            client.rules = tenant.rules_of(client.state.settings)

    def _apply_client(self, tenant: Tenant, client_id: str, stored: Stored) -> None:
        known = tenant.clients.get(client_id)
        if known is not None and known.stored.seq >= stored.seq:
            return
        state = client_events.codec.decode(stored.body).state
        tenant.record_token_lifetimes(state.longest_ttl, state.settings.access_token_ttl)
        tenant.clients[client_id] = Client(client_id, state, tenant.rules_of(state.settings), stored)
        if state.disabled or (known is not None and known.state.void_until != state.void_until):
            self.when_voided(tenant.name, client_id)

    def _apply_role(self, tenant: Tenant, name: str, stored: Stored) -> None:
        known = tenant.roles.get(name)
        if known is not None and known.seq >= stored.seq:
            return
        commit = role_events.codec.decode(stored.body)
        tenant.roles[name] = TenantRole(commit.state, stored.seq, commit.at)
        if commit.state.revoked or known is not None:
            self.when_voided(tenant.name, as_client(name))

    def _apply_key(self, tenant: Tenant, kid: str, stored: Stored) -> None:
        commit = key_events.codec.decode(stored.body)
        state, known = commit.state, tenant.keys.get(kid)
        if state.secret not in self._keyring:
            self._keyring.reload()
        if state.secret not in self._keyring:
            raise KeyMismatch(f"the keyring has no secret {state.secret}, which tenant {tenant.name} uses")
        if state.alg == "HS256":
            tenant.mac_key = max(tenant.mac_key, state.secret)
            return
        if known is not None and known.seq >= stored.seq:
            return
        key = (
            SigningKey(self._keyring, tenant.name, state.secret, state.number, state.alg)
            if known is None
            else known.key
        )
        if key.kid != kid:
            raise KeyMismatch(f"the keyring is not the one tenant {tenant.name} was made with: signing keys differ")
        tenant.keys[kid] = TenantKey(key, state, commit.at, stored.seq)
        signing = max(tenant.keys_that_are("active"), key=TenantKey.rank, default=None)
        if signing is not None:
            tenant.signing = signing.key
