"""Logs as a service would have written them, made from events alone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from events.aggregates import aggregate_names, client, family, family_commit, family_events
from events.aggregates import settings as tenant_settings
from events.aggregates import subject as person
from events.aggregates.commit import Codec, Commit, digest
from events.aggregates.family import DEVICE_GRANT
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    LateDuplicateRefused,
    Retry,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)
from events.aggregates.settings import ClientSettings, TenantConfigured, TenantSettings
from events.aggregates.subject import SubjectBlocked, SubjectEvent, SubjectUnblocked
from events.log.stored_message import StoredMessage

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
AUDIENCE = ("https://api.example",)
ONCE = "once000000000000000000"
"""The id of an exchanged token, as long as the service's, which the read model packs."""


def granted(
    grant: str = "issue", *, client_id: str = "web", sub: str = "alice", scope: str = "read"
) -> GrantAuthorized:
    """The first event of a family."""
    return GrantAuthorized(client_id, sub, scope, AUDIENCE, grant, "seed")


def refresh_token(expires_at: datetime) -> TokenIssued:
    """A refresh token of the first generation."""
    return TokenIssued("refresh", "read", AUDIENCE, expires_at, generation=0, key=1)


def access_token(jti: str, expires_at: datetime, client_id: str | None = None) -> TokenIssued:
    """An access token; `client_id` is its holder if it is not the family's client."""
    return TokenIssued("access", "read", AUDIENCE, expires_at, jti=jti, client_id=client_id)


class LogMaker:
    """Appends commits a second apart. If not `named`, they are of a version without the aggregate's name in them."""

    def __init__(self, *, named: bool = True) -> None:
        self._named = named
        self.log: list[StoredMessage] = []
        self._last: dict[str, tuple[StoredMessage, Any]] = {}
        self._act: dict[str, tuple[str, ...]] = {}

    @property
    def now(self) -> datetime:
        """The time of the next commit."""
        return START + timedelta(seconds=len(self.log))

    def open(self, family_id: str, *, tenant: str = "acme", client_id: str = "web", sub: str = "alice") -> None:
        """A grant with its first tokens."""
        self.commit(
            family_id,
            granted(client_id=client_id, sub=sub, scope="read offline_access"),
            refresh_token(self.now + timedelta(days=14)),
            access_token(f"{family_id}-0", self._soon),
            tenant=tenant,
            actor=f"client:{client_id}",
        )

    def rotate(self, family_id: str, *, tenant: str = "acme") -> None:
        """Rotate to the next generation."""
        state = self._last[f"tokens.{tenant}.family.{family_id}"][1]
        self.commit(
            family_id,
            TokenRedeemed(state.generation, "refresh_token"),
            TokenRotated(state.generation, state.generation + 1, self.now + timedelta(days=14), 1),
            access_token(f"{family_id}-{state.generation + 1}", self._soon),
            tenant=tenant,
        )

    def reuse(self, family_id: str, *, tenant: str = "acme") -> None:
        """An old generation is presented, which ends the family."""
        state = self._last[f"tokens.{tenant}.family.{family_id}"][1]
        detected = TokenReuseDetected(0, state.generation, state.client_id)
        self.commit(family_id, detected, FamilyRevoked("reuse_detected", "generation 0 was presented"), tenant=tenant)

    def late(self, family_id: str, *, tenant: str = "acme") -> None:
        """Generation 0 is presented with the key that redeemed it."""
        state = self._last[f"tokens.{tenant}.family.{family_id}"][1]
        event = LateDuplicateRefused(0, state.generation, state.client_id, Retry("key", "body"))
        self.commit(family_id, event, tenant=tenant, actor=f"client:{state.client_id}")

    def commit(self, family_id: str, *events: FamilyEvent, tenant: str = "acme", actor: str = "client:web") -> None:
        """Append a commit of a family."""
        aggregate = f"tokens.{tenant}.family.{family_id}"
        before = self._last[aggregate][1] if aggregate in self._last else None
        state = family.fold(before, events, self.now)
        subject = f"{aggregate}.{'revoked' if family_events.revokes(events) else 'live'}"
        self._append(aggregate, subject, family_commit.codec, actor, events, state)

    def configure_tenant(self, tenant: str) -> None:
        """Append a commit of a tenant's settings."""
        event = TenantConfigured(TenantSettings())
        name = aggregate_names.tenant(tenant).live
        self._append(name, name, tenant_settings.codec, "operator", (event,), tenant_settings.evolve(None, event))

    def configure_client(self, client_id: str) -> None:
        """Append a commit of a client."""
        subject = f"tokens.acme.client.{client_id}"
        event = client.ClientConfigured(ClientSettings(scope="read"))
        before = self._last[subject][1] if subject in self._last else None
        self._append(subject, subject, client.codec, "operator", (event,), client.evolve(before, event))

    def order(self, sub: str, event: SubjectEvent) -> None:
        """Append a commit about an OAuth subject."""
        name = aggregate_names.subject("acme", sub).live
        before = self._last[name][1] if name in self._last else None
        self._append(name, name, person.codec, "operator", (event,), person.evolve(before, event))

    def disable_client(self, client_id: str, reason: str) -> None:
        """Disable a client."""
        self._order_client(client_id, client.ClientDisabled(reason))

    def enable_client(self, client_id: str) -> None:
        """Enable a client."""
        self._order_client(client_id, client.ClientEnabled())

    def exchange(self, family_id: str, jti: str, client_id: str, came_of: tuple[str, ...] = ()) -> None:
        """Another client exchanges an access token of the family for a token of five minutes (RFC 8693).

        `came_of` are the `jti` of that access token and of those that it was itself exchanged from.
        """
        issued = access_token(jti, self._soon, client_id)
        self._act[jti] = client_id, *(self._act.get(came_of[0], ()) if came_of else ())
        self.commit(family_id, replace(issued, act=self._act[jti], exchanged_from=came_of))

    def _order_client(self, client_id: str, event: client.ClientEvent) -> None:
        name = f"tokens.acme.client.{client_id}"
        before = self._last[name][1] if name in self._last else None
        self._append(name, name, client.codec, "operator", (event,), client.evolve(before, event))

    def _append(
        self, aggregate: str, subject: str, codec: Codec[Any, Any], actor: str, events: Sequence[Any], state: Any
    ) -> None:
        last = self._last[aggregate][0] if aggregate in self._last else None
        prev, prev_seq = (None, 0) if last is None else (digest(last.body), last.seq)
        seq = len(self.log) + 1
        name = aggregate if self._named and not prev else None
        body = codec.encode(Commit(1, f"commit{seq}", self.now, actor, prev, prev_seq, tuple(events), state, name))
        self.log.append(StoredMessage(seq, subject, body))
        self._last[aggregate] = self.log[-1], state

    @property
    def _soon(self) -> datetime:
        return self.now + timedelta(minutes=5)


def swapped_log() -> list[StoredMessage]:
    """A family of `web` with three tokens of `orders`, which is disabled at sequence 4 and enabled at 6."""
    made = LogMaker()
    made.open("f")
    made.exchange("f", "before", "orders")
    made.exchange("f", "of another", "billing")
    made.disable_client("orders", "lost")
    made.exchange("f", "meanwhile", "orders")  # by a replica that has not applied the disabling
    made.enable_client("orders")
    made.exchange("f", "after", "orders")
    made.disable_client("web", "lost as well")  # its own tokens end with the family
    made.rotate("f")
    made.reuse("f")
    return made.log


def chained_log() -> list[StoredMessage]:
    """`orders` exchanged the first token, `billing` the result; the first token is revoked at sequence 6."""
    made = LogMaker()
    made.open("f")
    made.rotate("f")
    made.exchange("f", ONCE, "orders", came_of=("f-0",))
    made.exchange("f", "twice", "billing", came_of=(ONCE, "f-0"))
    made.exchange("f", "sibling", "orders", came_of=("f-1",))
    made.commit("f", TokenRevoked("f-0", made.now + timedelta(minutes=4)))
    made.reuse("f")
    return made.log


def passed_on_log() -> list[StoredMessage]:
    """`orders` exchanged a token, and `billing` the result; then `orders` is disabled from sequence 4 to 5."""
    made = LogMaker()
    made.open("f")
    made.exchange("f", ONCE, "orders", came_of=("f-0",))
    made.exchange("f", "twice", "billing", came_of=(ONCE, "f-0"))
    made.disable_client("orders", "stolen")
    made.enable_client("orders")
    made.exchange("f", "again", "orders", came_of=("f-0",))
    made.exchange("f", "and again", "billing", came_of=("again", "f-0"))
    made.reuse("f")
    return made.log


def eventful_log() -> list[StoredMessage]:
    """A log with three tenants: rotations, a theft, a forgery, a late duplicate, a revoked token, codes, devices."""
    made = LogMaker()
    made.configure_client("web")
    for number in range(8):
        made.open(f"f{number}", client_id="web" if number % 2 else "app", sub=f"user{number % 3}")
    made.open("f1", tenant="globex", sub="user1")
    for round in range(3):
        for number in range(8):
            made.rotate(f"f{(number * 3 + round) % 8}")
    made.rotate("f1", tenant="globex")
    made.reuse("f2")
    made.commit("f2", TokenReuseDetected(1, 3, "app"), actor="client:app")  # presented again after the end
    made.configure_client("web")
    made.commit("f3", TokenRevoked("f3-3", made.now + timedelta(minutes=4)))
    made.commit("f4", ForgeryDetected(9, 3, "app"), FamilyRevoked("forgery", "generation 9 was never issued"))
    made.commit("f5", FamilyRevoked("operator", "request"), actor="operator")
    made.reuse("f1", tenant="globex")
    waiting = DeviceAuthorizationStarted("tv", "read", AUDIENCE, "seed", made.now + timedelta(minutes=10))
    made.commit("d1", waiting, tenant="initech")
    made.commit("d2", waiting, tenant="initech")
    made.commit("d1", granted(DEVICE_GRANT, client_id="tv", sub="ann"), tenant="initech")
    made.commit("d2", DeviceAuthorizationDenied("bob"), tenant="initech")
    code = AuthorizationCodeIssued(made.now + timedelta(minutes=1), "challenge")
    made.commit("c1", granted("authorization_code", client_id="app", sub="cat"), code, tenant="initech")
    shown = TokenReuseDetected(0, 0, "app", "authorization_code")
    made.commit("c1", shown, FamilyRevoked("code_reuse", "request"), tenant="initech")
    made.order("user0", SubjectBlocked("user0", "Laptop lost at the Café"))
    made.order("user0", SubjectUnblocked("user0"))
    made.disable_client("app", "laptop of the maker lost")
    made.rotate("f0")
    made.late("f0")
    return made.log
