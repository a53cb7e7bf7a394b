"""A long made-up log, as a service would write it in weeks; the same seed gives the same log.

A family has ten generations; some end by a thief, their owner or an operator. The number of live families is constant,
so that the last tenth of the log is like the first.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from msgspec.structs import replace
from nats.aio.client import Client

from events.aggregates import aggregate_names, client, family, family_commit, family_events, settings, subject
from events.aggregates.commit import VERSION, Codec, Commit, digest
from events.aggregates.family import FamilyState
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    RevocationReason,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)
from events.aggregates.settings import ClientSettings, TenantSettings
from events.base62 import ALPHABET
from events.log.stored_message import StoredMessage

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
STEP = timedelta(seconds=1.3)
CODE_TTL = timedelta(days=7)
"""The lifetime of codes. It is long here, because a family's next commit may be hours away."""
ALIVE = 4000
GENERATIONS = 10
PEOPLE = 20_000
TENANTS = {"acme": 70, "globex": 20, "initech": 9, "hooli": 1}
"""Tenants, with their shares of the families in per cent; so are the clients below."""
CLIENTS = {"web": 40, "app": 30, "tv": 20, "cli": 9, "kiosk": 1}
FATES = {"none": 77.0, "code": 12, "logout": 6, "stolen": 3, "token": 1.9, "forged": 0.1}
"""How a family ends, or begins, in per cent."""
SCOPES = ("openid profile read offline_access", "read write offline_access", "read offline_access")
AUDIENCE = ("https://api.example",)
HEAVY = "robot@example.org"
"""A person with a hundredth of all families, and one more family that is refreshed again and again."""
LASTING = "cli"
"""The client whose refresh tokens last for years; those of the others end in two weeks."""

COMMITS_PER_ACK = 1000


class _Family:
    """A live family: its aggregate, its state, its last commit (digest, sequence), and the events to come."""

    def __init__(self, tenant: str, family_id: str, actor: str, life: Iterator[tuple[FamilyEvent, ...]]) -> None:
        self.tenant = tenant
        self.aggregate = aggregate_names.family(tenant, family_id)
        self.actor = actor
        self.life = life
        self.state: FamilyState | None = None
        self.last: tuple[str | None, int] = (None, 0)


class MadeUpLog:
    """Makes up the log commit by commit, from sequence 1 on, without an end."""

    def __init__(self, seed: int = 1) -> None:
        self._chance = random.Random(seed)
        self._seq = 0
        self._others: dict[str, tuple[str, int, Any]] = {}

    @property
    def now(self) -> datetime:
        """The time of the next commit."""
        return BEGIN + self._seq * STEP

    def __iter__(self) -> Iterator[StoredMessage]:
        """Yield the commits."""
        yield from self._registrations()
        alive = [self._begin() for _ in range(ALIVE)]
        tireless = self._begin(HEAVY, endless=True)
        while True:
            place = self._chance.randrange(ALIVE)
            if (events := next(alive[place].life, None)) is not None:
                yield self._commit(alive[place], events)
            else:
                alive[place] = self._begin()
            if self._seq % 3000 == 0:
                yield from self._cut_off(alive)
            elif self._seq % 100 == 0:
                yield self._commit(tireless, next(tireless.life))

    def _registrations(self) -> Iterator[StoredMessage]:
        for name in TENANTS:
            configured = settings.TenantConfigured(TenantSettings(issuer=f"https://{name}.example"))
            yield self._order(aggregate_names.tenant(name).live, settings.codec, settings.evolve, configured)
            for client_id in CLIENTS:
                registered = client.ClientConfigured(ClientSettings(scope=SCOPES[1], may_issue=True))
                yield self._order(aggregate_names.client(name, client_id).live, client.codec, client.evolve, registered)

    def _begin(self, sub: str | None = None, *, endless: bool = False) -> _Family:
        name = "acme" if endless else self._one_of(TENANTS)
        client_id, fate = self._one_of(CLIENTS), "none" if endless else self._one_of(FATES)
        if sub is None:
            one = self._chance.randrange(PEOPLE)
            sub = HEAVY if self._chance.random() < 0.01 else f"user-{one:05}@example.org"
        rotations = GENERATIONS - 1 if fate in ("none", "code") else self._chance.randrange(1, GENERATIONS)
        life = self._life(client_id, sub, fate, 1 << 40 if endless else rotations)
        return _Family(name, self._id(), f"client:{client_id}", life)

    def _life(self, client_id: str, sub: str, fate: str, rotations: int) -> Iterator[tuple[FamilyEvent, ...]]:
        scope, lasts = self._chance.choice(SCOPES), timedelta(days=3650 if client_id == LASTING else 14)
        grant = "authorization_code" if fate == "code" else "issue"
        granted = GrantAuthorized(client_id, sub, scope, AUDIENCE, grant, self._id(), acr="1", amr=("pwd",))
        if fate == "code":
            code = AuthorizationCodeIssued(self.now + CODE_TTL, self._id() * 2)
            yield granted, code
            yield TokenRedeemed(0, "authorization_code"), self._first(scope, lasts), self._access(scope)
        else:
            yield granted, self._first(scope, lasts), self._access(scope)
        for generation in range(rotations):
            rotated = TokenRotated(generation, generation + 1, self.now + lasts, 1)
            yield TokenRedeemed(generation, "refresh_token"), rotated, self._access(scope)
        cause = f"request {self._id()}"
        match fate:
            case "logout":
                yield (FamilyRevoked("client_request", cause),)
            case "stolen":
                shown = self._chance.randrange(rotations)
                yield TokenReuseDetected(shown, rotations, client_id), FamilyRevoked("reuse_detected", cause)
                yield (TokenReuseDetected(shown, rotations, client_id),)
            case "token":
                access = replace(self._access(scope), expires_at=self.now + CODE_TTL)
                yield TokenRedeemed(rotations, "refresh_token"), access
                yield (TokenRevoked(access.jti or "", access.expires_at),)
            case "forged":
                forged = ForgeryDetected(rotations + 5, rotations, client_id)
                yield forged, FamilyRevoked("forgery", cause)

    def _first(self, scope: str, lasts: timedelta) -> TokenIssued:
        end = self.now + lasts
        return TokenIssued("refresh", scope, AUDIENCE, end, generation=0, key=1, family_expires_at=end + lasts)

    def _access(self, scope: str) -> TokenIssued:
        return TokenIssued("access", scope, AUDIENCE, self.now + timedelta(minutes=5), jti=self._id())

    def _cut_off(self, alive: list[_Family]) -> Iterator[StoredMessage]:
        """Block and unblock a person, or disable and enable a client; their families end."""
        one = self._chance.choice(alive)
        if one.state is None:
            return
        if self._chance.random() < 0.9:
            name, sub = aggregate_names.subject(one.tenant, one.state.sub).live, one.state.sub
            kind = name, subject.codec, subject.evolve
            yield self._order(*kind, subject.SubjectBlocked(sub, f"ticket {self._chance.randrange(10_000)}"))
            yield from self._end(alive, one.tenant, "subject_blocked", lambda state: state.sub == sub)
            yield self._order(*kind, subject.SubjectUnblocked(sub))
        else:
            of_client = aggregate_names.client(one.tenant, "kiosk").live, client.codec, client.evolve
            yield self._order(*of_client, client.ClientDisabled("maintenance"))
            yield from self._end(alive, one.tenant, "client_disabled", lambda state: state.client_id == "kiosk")
            yield self._order(*of_client, client.ClientEnabled("maintenance is over"))

    def _end(
        self, alive: list[_Family], tenant: str, reason: RevocationReason, concerns: Callable[[FamilyState], bool]
    ) -> Iterator[StoredMessage]:
        for place, one in enumerate(alive):
            if one.tenant == tenant and one.state is not None and concerns(one.state):
                if one.state.revoked is None:
                    one.actor = "operator"
                    yield self._commit(one, (FamilyRevoked(reason, f"sequence {self._seq}"),))
                alive[place] = self._begin()

    def _commit(self, one: _Family, events: tuple[FamilyEvent, ...]) -> StoredMessage:
        one.state = family.fold(one.state, events, self.now)
        place = one.aggregate.revoked if family_events.revokes(events) else one.aggregate.live
        body = self._body(family_commit.codec, one.aggregate.name, one.actor, one.last, events, one.state)
        one.last = digest(body), self._seq
        return StoredMessage(self._seq, place, body)

    def _order(self, name: str, codec: Codec[Any, Any], evolve: Callable[[Any, Any], Any], event: Any) -> StoredMessage:
        prev, prev_seq, state = self._others.get(name, (None, 0, None))
        state = evolve(state, event)
        body = self._body(codec, name, "operator", (prev, prev_seq), (event,), state)
        self._others[name] = digest(body), self._seq, state
        return StoredMessage(self._seq, name, body)

    def _body(
        self,
        codec: Codec[Any, Any],
        name: str,
        actor: str,
        last: tuple[str | None, int],
        events: tuple[Any, ...],
        state: Any,
    ) -> bytes:
        prev, prev_seq = last
        first = None if prev else name
        body = codec.encode(Commit(VERSION, self._id(), self.now, actor, prev, prev_seq, events, state, first))
        self._seq += 1
        return body

    def _one_of(self, shares: dict[str, Any]) -> str:
        return self._chance.choices(list(shares), list(shares.values()))[0]

    def _id(self) -> str:
        return "".join(self._chance.choices(ALPHABET, k=22))


async def write(connection: Client, commits: Iterable[StoredMessage], advance: Callable[[int], None]) -> None:
    """Append the commits to an empty log as fast as possible. Raises `RuntimeError` if their sequences differ.

    Each has the same headers as the service's, because the headers are stored and cost readers time.
    """
    jetstream = connection.jetstream(timeout=30)
    last: dict[str, int] = {}
    for many in _batched(commits, COMMITS_PER_ACK):
        for stored in many[:-1]:  # the last one's acknowledgement covers all
            await connection.publish(stored.subject, stored.body, headers=_expectation(stored, last))
        final = many[-1]
        acknowledged = await jetstream.publish(final.subject, final.body, headers=_expectation(final, last))
        if acknowledged.seq != many[-1].seq:
            raise RuntimeError(f"commit {many[-1].seq} lies at {acknowledged.seq}: the log was not empty")
        advance(acknowledged.seq)


def _expectation(stored: StoredMessage, last: dict[str, int]) -> dict[str, str]:
    aggregate, _, kind = stored.subject.rpartition(".")
    filter = f"{aggregate}.*" if kind in ("live", "revoked") else stored.subject
    expected, last[filter] = last.get(filter, 0), stored.seq
    return {
        "Nats-Expected-Last-Subject-Sequence": str(expected),
        "Nats-Expected-Last-Subject-Sequence-Subject": filter,
    }


def _batched(commits: Iterable[StoredMessage], size: int) -> Iterator[list[StoredMessage]]:
    """Split into lists of `size` commits."""
    rest = iter(commits)
    while many := list(islice(rest, size)):
        yield many
