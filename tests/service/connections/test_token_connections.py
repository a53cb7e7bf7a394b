"""Which connections end with their token; `security/test_connecting` tests that the broker ends them."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from events.aggregates.commit import VERSION, Commit
from events.aggregates.family import FamilyCommit, FamilyState, Revocation
from events.aggregates.family_commit import codec
from events.log.jetstream_api import Unavailable
from service import clock
from service.clock import FOR_EVER
from service.connections import token_connections as token_connections
from service.connections.disconnect import Listed
from service.connections.token_connections import TokenConnection, TokenConnections
from service.families.cache import LoadedFamily
from tests.service.decide.given import given, opened

UNTIL = int(time.time()) + 3600
ONE = TokenConnection("acme", "web", "family", "jti-1", UNTIL)
OTHER = ONE._replace(jti="jti-2")
LIVE = given(opened())
assert LIVE is not None
ENDED = replace(LIVE, revoked=Revocation(datetime.now(UTC), "operator"))
ONE_ENDED = replace(LIVE, revoked_jtis={ONE.jti: datetime.now(UTC)})


class World:
    """A log with given answers, and a broker that records which connections it was told to end."""

    def __init__(self) -> None:
        self.answers: list[FamilyState | Unavailable | None] = []
        self.ended: list[str] = []
        self.void: dict[tuple[str, str], datetime] = {}
        asked = SimpleNamespace(load=self._load), SimpleNamespace(void_until=lambda *who: self.void.get(who))
        self.connections = SimpleNamespace(end_user=self.ended.append)
        self.token_connections = TokenConnections(*cast("Any", (*asked, self.connections)))

    def list(self, user: str, began: datetime | None = None) -> None:
        """The servers list such a connection."""
        self.token_connections.listed(Listed("one", 1, user, (began or clock.now()).isoformat()))

    async def _load(self, _tenant: str, _family_id: str) -> LoadedFamily:
        answer = self.answers.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return LoadedFamily(7, None, answer, True)

    def receive(self, state: FamilyState, family_id: str = "family") -> None:
        """Receive a revocation."""
        commit: FamilyCommit = Commit(VERSION, "id", datetime.now(UTC), "operator", None, 0, (), state)
        self.token_connections._receive(f"revoked.acme.{family_id}".encode(), b"", codec.encode(commit), None)

    async def kicked(self) -> None:
        """Return when all due connections have been ended."""
        for _ in range(2):
            await asyncio.sleep(0)

    async def settled(self) -> None:
        """Return when no check is at work any more."""
        while self.token_connections._tasks:
            await self.token_connections._tasks.settled()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """One without delays."""
    monkeypatch.setattr(token_connections, "ADMISSIONS_SETTLED_SECONDS", 0)
    monkeypatch.setattr(token_connections, "KICK_DELAY_SECONDS", 0)
    return World()


def test_the_user_name_contains_the_token() -> None:
    """The name of a client with another proof contains none."""
    assert TokenConnection.of(ONE.user) == ONE
    assert TokenConnection.of("acme/web") is None


async def test_a_token_revoked_while_its_connection_opens(world: World) -> None:
    """The family is checked once more, as soon as the log answers, and a live one stays."""
    world.answers = [Unavailable("no leader"), ENDED]
    world.token_connections.opened(ONE)
    await world.settled()
    assert world.ended == [ONE.user]
    world.answers = [LIVE]
    world.token_connections.opened(OTHER)
    await world.settled()
    assert world.ended == [ONE.user]


@pytest.mark.parametrize(("state", "ended"), [(ENDED, {ONE, OTHER}), (ONE_ENDED, {ONE}), (LIVE, set())])
async def test_a_received_revocation_ends_its_connections_once(
    world: World, state: FamilyState, ended: set[TokenConnection]
) -> None:
    """A family's revocation ends all of its connections, a token's its own, another family's none."""
    world.answers = [LIVE, LIVE]
    for one in (ONE, OTHER):
        world.token_connections.opened(one)
    await world.settled()
    for _ in range(2):
        world.receive(ENDED, "another")
        world.receive(state)
        await world.kicked()
    assert sorted(world.ended) == sorted(one.user for one in ended)


async def test_connections_from_before_the_start(world: World) -> None:
    """Those of void tokens end, the others once theirs are revoked; connections by other proofs stay."""
    world.answers = [ONE_ENDED, ONE_ENDED]
    for _ in range(2):  # the servers are asked twice, the log once
        for user in (ONE.user, OTHER.user, "acme/web"):
            world.list(user)
    await world.settled()
    assert world.ended == [ONE.user]
    world.receive(ENDED)
    await world.kicked()
    assert world.ended == [ONE.user, OTHER.user]


async def test_connections_of_a_disabled_client_end(world: World) -> None:
    """Also one that was just admitted, and none of a client of the same name in another tenant."""
    world.answers = [LIVE, LIVE]
    world.token_connections.opened(ONE)
    world.token_connections.opened(ONE._replace(client_id="other"))
    await world.settled()
    world.token_connections.end_client("globex", "web")
    await world.kicked()
    assert world.ended == []
    world.token_connections.end_client("acme", "web")
    await world.kicked()
    assert world.ended == [ONE.user]
    world.void["acme", "web"] = FOR_EVER
    world.answers = [LIVE]
    world.token_connections.opened(OTHER)
    await world.settled()
    assert world.ended == [ONE.user, OTHER.user]


async def test_connections_from_before_their_client_was_enabled_again_end(world: World) -> None:
    """Also if this replica never received the disabling, or another replica had not when it admitted."""
    enabled = world.void["acme", "web"] = clock.now() + timedelta(minutes=1)
    world.answers = [LIVE, LIVE, LIVE]
    world.list(ONE.user, enabled - timedelta(seconds=1))
    world.list(OTHER.user, enabled + timedelta(seconds=1))
    await world.settled()
    assert world.ended == [ONE.user]
    world.token_connections.opened(ONE._replace(jti="jti-3"))
    await world.settled()
    assert world.ended == [ONE.user, ONE._replace(jti="jti-3").user]


async def test_revocations_missed_while_the_broker_was_away(world: World) -> None:
    """RFC 7009 §2.1: after a reconnect a replica checks every connection it knows."""

    async def nothing(*_: object) -> None:
        pass

    bus = SimpleNamespace(stats={"reconnects": 0}, listen=nothing, flush=nothing)
    world.answers = [LIVE]
    await world.token_connections.start(cast("Any", bus))
    world.list(ONE.user)
    while world.answers:
        await asyncio.sleep(0)
    world.answers = [ONE_ENDED]
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.ended == [] and world.answers, "without a reconnect nothing is checked"
    bus.stats["reconnects"] += 1
    async with asyncio.timeout(5):
        while not world.ended:
            await asyncio.sleep(0)
    assert world.ended == [ONE.user]
    await world.token_connections.stop()


async def test_an_expired_tokens_connection_is_forgotten(world: World) -> None:
    """The broker ends it by itself."""
    world.answers = [LIVE]
    world.token_connections.opened(ONE._replace(until=int(time.time())))
    await world.settled()
    async with asyncio.timeout(5):
        while world.token_connections._known:
            await asyncio.sleep(0)


async def test_many_connections_of_one_token_have_one_timer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the connections of one token."""
    timers: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def counted(seconds: float, *arguments: Any) -> asyncio.TimerHandle:
        timers.append(seconds)
        return call_later(seconds, *arguments)

    world.answers = [LIVE] * 20
    with monkeypatch.context() as patched:
        patched.setattr(loop, "call_later", counted)
        for _ in range(20):
            world.token_connections.opened(ONE)
    await world.settled()
    assert len(timers) == 1
