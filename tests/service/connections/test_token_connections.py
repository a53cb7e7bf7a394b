"""Which connections end with the token that opened them; that the broker ends them is in `security/test_connecting`."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from events.aggregates.commit import VERSION, Commit
from events.aggregates.family import FamilyCommit, FamilyState, Revocation, codec
from events.log.log import Unavailable
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
    """A log that answers with what it is given, and a broker of which only what it is asked to end is kept."""

    def __init__(self) -> None:
        self.answers: list[FamilyState | Unavailable | None] = []
        self.ended: list[str] = []
        self.void: dict[tuple[str, str], datetime] = {}
        asked = SimpleNamespace(load=self._load), SimpleNamespace(void_until=lambda *who: self.void.get(who))
        self.connections = SimpleNamespace(end_user=self.ended.append)
        self.token_connections = TokenConnections(*cast("Any", (*asked, self.connections)))

    def list(self, user: str, began: datetime | None = None) -> None:
        """The servers have such a connection."""
        self.token_connections.listed(Listed("one", 1, user, (began or clock.now()).isoformat()))

    async def _load(self, _tenant: str, _family_id: str) -> LoadedFamily:
        answer = self.answers.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return LoadedFamily(7, None, answer, True)

    def hear(self, state: FamilyState, family_id: str = "family") -> None:
        """Of a revocation."""
        commit: FamilyCommit = Commit(VERSION, "id", datetime.now(UTC), "operator", None, 0, (), state)
        self.token_connections._receive(f"revoked.acme.{family_id}".encode(), b"", codec.encode(commit), None)

    async def told(self) -> None:
        """Return when those who are to be sent away have been."""
        for _ in range(2):
            await asyncio.sleep(0)

    async def settled(self) -> None:
        """Return when nothing is being looked at any more."""
        while self.token_connections._tasks:
            await self.token_connections._tasks.settled()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Where nobody waits."""
    monkeypatch.setattr(token_connections, "ADMISSIONS_SETTLED_SECONDS", 0)
    monkeypatch.setattr(token_connections, "KICK_DELAY_SECONDS", 0)
    return World()


def test_the_name_tells_everything() -> None:
    """And that of a client with another proof tells nothing."""
    assert TokenConnection.of(ONE.user) == ONE
    assert TokenConnection.of("acme/web") is None


async def test_what_is_revoked_while_it_opens_a_connection(world: World) -> None:
    """It is looked at once more, however long the log keeps silent, and a live one stays."""
    world.answers = [Unavailable("no leader"), ENDED]
    world.token_connections.opened(ONE)
    await world.settled()
    assert world.ended == [ONE.user]
    world.answers = [LIVE]
    world.token_connections.opened(OTHER)
    await world.settled()
    assert world.ended == [ONE.user]


@pytest.mark.parametrize(("state", "ended"), [(ENDED, {ONE, OTHER}), (ONE_ENDED, {ONE}), (LIVE, set())])
async def test_a_revocation_that_is_heard(world: World, state: FamilyState, ended: set[TokenConnection]) -> None:
    """A family's ends all, a token's its own, another family's none; and each is ended once."""
    world.answers = [LIVE, LIVE]
    for one in (ONE, OTHER):
        world.token_connections.opened(one)
    await world.settled()
    for _ in range(2):
        world.hear(ENDED, "another")
        world.hear(state)
        await world.told()
    assert sorted(world.ended) == sorted(one.user for one in ended)


async def test_connections_that_were_there_before(world: World) -> None:
    """Those of void tokens end, the others when theirs are revoked; whoever came by another proof is left alone."""
    world.answers = [ONE_ENDED, ONE_ENDED]
    for _ in range(2):  # the servers are asked again and again, and the log once
        for user in (ONE.user, OTHER.user, "acme/web"):
            world.list(user)
    await world.settled()
    assert world.ended == [ONE.user]
    world.hear(ENDED)
    await world.told()
    assert world.ended == [ONE.user, OTHER.user]


async def test_what_a_disabled_client_holds(world: World) -> None:
    """Those by tokens of other clients' families too, and one that was just admission; not a namesake's elsewhere."""
    world.answers = [LIVE, LIVE]
    world.token_connections.opened(ONE)
    world.token_connections.opened(ONE._replace(client_id="other"))
    await world.settled()
    world.token_connections.end_client("globex", "web")
    await world.told()
    assert world.ended == []
    world.token_connections.end_client("acme", "web")
    await world.told()
    assert world.ended == [ONE.user]
    world.void["acme", "web"] = FOR_EVER
    world.answers = [LIVE]
    world.token_connections.opened(OTHER)
    await world.settled()
    assert world.ended == [ONE.user, OTHER.user]


async def test_what_a_client_held_before_it_was_enabled_again(world: World) -> None:
    """Nobody here has heard of its disabling, or it came while others had not: it is void all the same."""
    enabled = world.void["acme", "web"] = clock.now() + timedelta(minutes=1)
    world.answers = [LIVE, LIVE, LIVE]
    world.list(ONE.user, enabled - timedelta(seconds=1))
    world.list(OTHER.user, enabled + timedelta(seconds=1))
    await world.settled()
    assert world.ended == [ONE.user]
    world.token_connections.opened(ONE._replace(jti="jti-3"))
    await world.settled()
    assert world.ended == [ONE.user, ONE._replace(jti="jti-3").user]


async def test_what_was_revoked_while_the_broker_was_away(world: World) -> None:
    """RFC 7009 §2.1: a replica that comes back looks at every connection it knows, since it has heard of nothing."""

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
    assert world.ended == [] and world.answers, "nothing is looked at while nothing was missed"
    bus.stats["reconnects"] += 1
    async with asyncio.timeout(5):
        while not world.ended:
            await asyncio.sleep(0)
    assert world.ended == [ONE.user]
    await world.token_connections.stop()


async def test_nothing_is_kept_of_a_token_whose_time_is_over(world: World) -> None:
    """The broker ends its connections by itself."""
    world.answers = [LIVE]
    world.token_connections.opened(ONE._replace(until=int(time.time())))
    await world.settled()
    async with asyncio.timeout(5):
        while world.token_connections._known:
            await asyncio.sleep(0)


async def test_who_connects_again_and_again_has_one_timer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing grows by connections of one token until it ends."""
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
