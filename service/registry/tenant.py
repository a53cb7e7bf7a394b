"""One tenant in memory: its settings, keys, clients and roles, and what each commit about them changes."""

from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from events.aggregates import client as client_events
from events.aggregates import key as key_events
from events.aggregates import role as role_events
from events.aggregates import settings as tenant_events
from events.aggregates.settings import ClientSettings, TenantSettings
from events.fairness.token_buckets import Bucket
from events.log.stored_message import StoredMessage
from service.clock import FOR_EVER
from service.decide.policy import Rules, resolve
from service.keys.keyring import Keyring
from service.keys.mac_tokens import MacTokens
from service.keys.signing_key import SigningKey
from service.keys.vouchers import Vouchers
from service.registry.named_role import TenantRole

LEEWAY_SECONDS = 60
"""How long a retired key stays published after its last token has expired: clocks differ."""


class KeyMismatch(Exception):
    """The log names a signing key that this keyring does not make: it is not the keyring of this log."""


class Tenant:
    """One issuer, with everything that its requests need. `configured` is its newest settings' commit.

    A tenant may be here before its settings are: `configured` is None until they are applied.
    """

    def __init__(self, name: str, keyring: Keyring) -> None:
        self.name = name
        self._keyring = keyring
        self.settings = TenantSettings()
        self.configured: StoredMessage | None = None
        self.keys: dict[str, TenantKey] = {}
        self.signing: SigningKey | None = None
        self.refresh_tokens = MacTokens(keyring, name, "refresh")
        self.codes = MacTokens(keyring, name, "code")
        self.device_codes = MacTokens(keyring, name, "device")
        self.opaque_tokens = MacTokens(keyring, name, "access")
        self.vouchers = Vouchers(keyring, name)
        self.clients: dict[str, Client] = {}
        self.roles: dict[str, TenantRole] = {}
        self.longest_ttl = 0
        """The longest lifetime, in seconds, of any access token that the tenant ever issued."""
        self.mac_key = keyring.first
        self.from_edges, self.public, self.looked_for = Bucket(), Bucket(), Bucket()
        self.resources = Bucket()
        """The rates of requests whose client is not known yet (`service.request_rates`)."""
        self.public_replies: dict[str, tuple[float, bytes]] = {}
        """Cached public documents (`service.endpoints.discovery`); every commit about the tenant clears them."""

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
        """The keys with that status: `next`, `active` or `retired`."""
        return [known for known in self.keys.values() if known.state.status == status]

    def published(self, now: datetime) -> "list[TenantKey]":
        """The keys of the JWKS (RFC 7517): a retired key is among them while a token under it may be valid."""
        lived = timedelta(seconds=self.longest_ttl + LEEWAY_SECONDS)
        return [known for known in self.keys.values() if known.state.status != "retired" or now < known.at + lived]

    def rules_of(self, settings: ClientSettings) -> Rules:
        """The rules for a client with these settings. The issuer is always among its audiences."""
        rules = resolve(self.settings, settings)
        return msgspec.structs.replace(rules, audiences=(self.issuer, *rules.audiences))

    def record_token_lifetimes(self, *lifetimes: int | None) -> None:
        """Raise `longest_ttl` to the longest of these lifetimes (seconds); None counts for nothing."""
        self.longest_ttl = max([self.longest_ttl, *(ttl for ttl in lifetimes if ttl is not None)])

    def apply_settings(self, stored: StoredMessage) -> None:
        """Apply a commit about the tenant itself. One that is not newer than the last applied one changes nothing."""
        if self.configured is not None and self.configured.seq >= stored.seq:
            return
        state = tenant_events.codec.decode(stored.body).state
        self.settings = state.settings
        self.configured = stored
        self.record_token_lifetimes(state.longest_ttl, self.rules_of(ClientSettings()).access_token_ttl)
        for client in self.clients.values():
            client.rules = self.rules_of(client.state.settings)

    def apply_client(self, client_id: str, stored: StoredMessage) -> bool:
        """Apply a commit about a client, if it is newer. True if older connections of the client are void now."""
        known = self.clients.get(client_id)
        if known is not None and known.stored.seq >= stored.seq:
            return False
        state = client_events.codec.decode(stored.body).state
        self.record_token_lifetimes(state.longest_ttl, state.settings.access_token_ttl)
        self.clients[client_id] = Client(client_id, state, self.rules_of(state.settings), stored)
        return state.disabled or (known is not None and known.state.void_until != state.void_until)

    def apply_role(self, name: str, stored: StoredMessage) -> bool:
        """Apply a commit about a role, if it is newer. True if older connections under the name are void now."""
        known = self.roles.get(name)
        if known is not None and known.seq >= stored.seq:
            return False
        commit = role_events.codec.decode(stored.body)
        self.roles[name] = TenantRole(commit.state, stored.seq, commit.at)
        return commit.state.revoked or known is not None

    def apply_key(self, kid: str, stored: StoredMessage) -> None:
        """Apply a commit about a key, if it is newer. Raises `KeyMismatch` and `KeyringError`."""
        commit = key_events.codec.decode(stored.body)
        state, known = commit.state, self.keys.get(kid)
        if state.secret not in self._keyring:
            self._keyring.reload()
        if state.secret not in self._keyring:
            raise KeyMismatch(f"the keyring has no secret {state.secret}, which tenant {self.name} uses")
        if state.alg == "HS256":
            self.mac_key = max(self.mac_key, state.secret)
            return
        if known is not None and known.seq >= stored.seq:
            return
        key = (
            SigningKey(self._keyring, self.name, state.secret, state.number, state.alg) if known is None else known.key
        )
        if key.kid != kid:
            raise KeyMismatch(f"the keyring is not the one tenant {self.name} was made with: signing keys differ")
        self.keys[kid] = TenantKey(key, state, commit.at, stored.seq)
        signing = max(self.keys_that_are("active"), key=TenantKey.rank, default=None)
        if signing is not None:
            self.signing = signing.key


class TenantKey(NamedTuple):
    """A signing key, its state, and the time (`at`) and sequence of the commit that gave it that state."""

    key: SigningKey
    state: key_events.KeyState
    at: datetime
    seq: int

    def rank(self) -> tuple[int, int, str]:
        """The order of active keys: the highest one signs, and it is the same one on every replica."""
        return self.state.number, self.state.secret, self.key.kid


class Client(msgspec.Struct):
    """One registration, with the rules that follow from it and from its tenant's settings."""

    client_id: str
    state: client_events.ClientState
    rules: Rules
    stored: StoredMessage
    bucket: Bucket = msgspec.field(default_factory=Bucket)
    persons: Bucket = msgspec.field(default_factory=Bucket)
    assertions: Bucket = msgspec.field(default_factory=Bucket)

    @property
    def void_until(self) -> datetime | None:
        """Connections that began before this time are void."""
        return FOR_EVER if self.state.disabled else self.state.void_until
