"""A client's connections stay within its bound at all replicas; `security/test_connecting` has the broker's part."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.connections import connection_counts
from service.connections.admission import Admitted
from service.connections.connection_counts import MAX_CONNECTIONS_OF_PERSON, MAX_WAITING, ConnectionCounts
from service.connections.disconnect import ACCOUNT, PERSONS_ACCOUNT, Listed
from service.connections.token_connections import TokenConnection
from service.registry.named_role import ACCOUNTS, as_client, bound_of_role


class Servers:
    """Two servers of a broker, and what they have."""

    def __init__(self) -> None:
        self.open: list[Listed] = []
        self.asked = self.let_in = self.kicked = 0
        self.listed: list[Listed] = []
        self.is_slow = False
        self.answering = asyncio.Semaphore()

    async def list_all(self, receive: Callable[[Listed], None]) -> None:
        """All answer, with those they had when they were asked."""
        self.asked += 1
        found = list(self.open)
        await self.answering.acquire()
        if not self.is_slow:
            self.answering.release()
        for listed in found:
            receive(listed)

    async def kick(self, listed: Listed) -> None:
        """It ends."""
        self.open.remove(listed)
        self.kicked += 1

    def slow_down(self) -> None:
        """From now on they answer only when they are let (`answering`)."""
        self.is_slow, self.answering = True, asyncio.Semaphore(0)

    def connect(self, user: str, at: int, server: str = "one", account: str = ACCOUNT) -> None:
        """Let in by whichever replica."""
        self.let_in += 1
        self.open.append(Listed(server, self.let_in, user, f"2026-11-29T12:00:{at:02}Z", account))


@pytest.fixture
def servers() -> Servers:
    """With nobody."""
    return Servers()


def _bound(tenant: str, client_id: str) -> int | None:
    if client_id == as_client(""):
        return 3
    return 2 if tenant in ("acme", "operator") else None


@pytest.fixture
async def counts(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ConnectionCounts]:
    """Of a replica that has started; clients of acme may have two connections each."""
    monkeypatch.setattr(connection_counts, "COUNT_PAUSE_SECONDS", 0)
    counts = ConnectionCounts(servers, _bound, servers.listed.append)
    await counts.start()
    await _counted()
    yield counts
    await counts.stop()


async def comes(counts: ConnectionCounts, tenant: str, client_id: str) -> bool:
    """As the callout asks: whether one more is let in, now or after the next count."""
    return counts.takes(tenant, client_id) or await counts.takes_later(tenant, client_id)


async def _counted() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_more_than_it_may_is_refused(servers: Servers, counts: ConnectionCounts) -> None:
    """Those just let in count before any server has told of them; each client has its own bound."""
    for at in range(2):
        assert await comes(counts, "acme", "web")
        servers.connect("acme/web", at)
    assert not await comes(counts, "acme", "web")
    assert await comes(counts, "acme", "other") and await comes(counts, "globex", "web")


async def test_who_was_let_in_counts_until_the_servers_have_answered(
    servers: Servers, counts: ConnectionCounts
) -> None:
    """Also those who came before the servers were asked, whom no count that is known has found."""
    servers.slow_down()
    for at in range(2):
        assert counts.takes("acme", "web")
        servers.connect("acme/web", at)
    await _counted()
    assert servers.asked == 2 and not counts.takes("acme", "web")
    servers.answering.release()
    await _counted()
    assert not counts.takes("acme", "web")
    servers.open.pop()
    servers.answering.release()
    servers.answering.release()
    assert await counts.takes_later("acme", "web")


@given(st.lists(st.sampled_from(["comes", "comes", "goes", "answer"]), max_size=60))
def test_one_replica_lets_in_no_more_than_the_bound(steps: list[str]) -> None:
    """Whenever they come and go, and however long the servers take: nobody who was let in has to be ended."""
    asyncio.run(_follow(steps))


async def _follow(steps: list[str]) -> None:
    servers = Servers()
    servers.slow_down()
    counts = ConnectionCounts(servers, _bound, servers.listed.append)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connection_counts, "COUNT_PAUSE_SECONDS", 0)
        await counts.start()
        for at, step in enumerate(steps):
            if step == "comes" and counts.takes("acme", "web"):
                servers.connect("acme/web", at)
            elif step == "goes" and servers.open:
                servers.open.pop(0)
            elif step == "answer":
                servers.answering.release()
            await _counted()
            assert len(servers.open) <= 2 and not servers.kicked
        servers.is_slow = False
        servers.answering.release()
        assert await comes(counts, "acme", "web") == (len(servers.open) < 2), "and whoever left made room"
        await counts.stop()


async def test_who_waits_for_a_count_that_never_comes(servers: Servers, counts: ConnectionCounts) -> None:
    """A replica that ends waits for nobody who waits for it."""
    servers.slow_down()
    for at in range(2):
        servers.connect("acme/web", at)
        assert counts.takes("acme", "web")
    waiting = asyncio.create_task(counts.takes_later("acme", "web"))
    await _counted()
    assert not waiting.done()
    await counts.stop()
    async with asyncio.timeout(10):
        assert not await waiting
    assert not await counts.takes_later("acme", "web") and await comes(counts, "acme", "other")


async def test_those_of_tokens_count_as_the_clients(servers: Servers, counts: ConnectionCounts) -> None:
    """A token of its own for each connection gives a client no more of them."""
    servers.connect("acme/web", 1)
    servers.connect("acme/web/family/jti/1700000000", 2, "two")
    await comes(counts, "acme", "other")
    await _counted()
    assert not await comes(counts, "acme", "web")


async def test_one_persons_token_takes_none_of_its_clients_connections(
    servers: Servers, counts: ConnectionCounts
) -> None:
    """Each person's grant has a few of its own, whichever of its tokens it shows, and whatever the client may have."""
    jtis = [f"jti-{at}" for at in range(MAX_CONNECTIONS_OF_PERSON)]
    persons = [
        Admitted("acme", "web", TokenConnection("acme", "web", "family", jti, 1_700_000_000), (jti,)) for jti in jtis
    ]
    assert {admitted.counted for admitted in persons} == {"person:family"}
    for at, admitted in enumerate(persons):
        assert await comes(counts, "acme", admitted.counted)
        assert admitted.token_connection is not None
        servers.connect(admitted.token_connection.user, at, account=PERSONS_ACCOUNT)
    await _counted()
    assert not await comes(counts, "acme", persons[0].counted)
    assert await comes(counts, "acme", "person:another")
    assert [await comes(counts, "acme", "web") for _ in range(2)] == [True, True]
    assert len(servers.open) == MAX_CONNECTIONS_OF_PERSON


async def test_who_has_left_makes_room(servers: Servers, counts: ConnectionCounts) -> None:
    """Also where the connection was never opened that a replica had let in."""
    for _ in range(20):  # one after the other, however soon
        assert await comes(counts, "acme", "web")


async def test_who_waits_for_room_keeps_nobody_waiting(servers: Servers, counts: ConnectionCounts) -> None:
    """So many of one client wait for the next count, and all others are refused at once."""
    for at in range(2):
        servers.connect("acme/web", at)
    await comes(counts, "acme", "other")
    await _counted()
    asked = [asyncio.create_task(comes(counts, "acme", "web")) for _ in range(50)]
    await asyncio.sleep(0)
    assert sum(task.done() for task in asked) == 50 - MAX_WAITING
    assert await asyncio.gather(*asked) == [False] * 50


async def test_what_replicas_let_in_at_once_is_ended_by_age(servers: Servers, counts: ConnectionCounts) -> None:
    """Each let in two: the two newest end, and every replica would choose the same."""
    for at, server in ((4, "one"), (1, "two"), (3, "two"), (2, "one")):
        servers.connect("acme/web", at, server)
    servers.connect("acme/other", 9)
    await comes(counts, "acme", "web")
    await _counted()
    assert sorted(listed.start[-3:-1] for listed in servers.open) == ["01", "02", "09"]


async def test_nobody_is_asked_while_nobody_comes(servers: Servers, counts: ConnectionCounts) -> None:
    """What costs the broker something follows from connecting alone."""
    before = servers.asked
    await _counted()
    assert servers.asked == before


async def test_who_comes_elsewhere_is_found_after_a_while(
    servers: Servers, counts: ConnectionCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replica that let somebody in may be gone before anybody comes to this one."""
    monkeypatch.setattr(connection_counts, "ADMISSIONS_SETTLED_SECONDS", 0)
    counts.takes("acme", "other")  # from the next count on it waits no longer than that
    await _counted()
    servers.connect("acme/web", 1)
    async with asyncio.timeout(10):
        while not servers.listed:
            await asyncio.sleep(0)
    assert {each.user for each in servers.listed} == {"acme/web"}


async def test_all_names_of_a_tenant_have_a_bound_together(servers: Servers, counts: ConnectionCounts) -> None:
    """So that no tenant's operator makes names until the machine's operator, and other tenants, find no place."""
    for at, name in enumerate(("one", "one", "two")):
        assert await comes(counts, "acme", f"role:{name}")
        servers.connect(f"acme/role:{name}", at)
    assert not await comes(counts, "acme", "role:three")
    assert await comes(counts, "globex", "role:one") and await comes(counts, "acme", "web")


async def test_names_let_in_at_once_are_ended_by_age(servers: Servers, counts: ConnectionCounts) -> None:
    """By the bound of them all, as by each one's own."""
    for at, name in enumerate(("one", "two", "three", "four", "one")):
        servers.connect(f"acme/role:{name}", at)
    await comes(counts, "acme", "other")
    await _counted()
    assert sorted(listed.start[-3:-1] for listed in servers.open) == ["00", "01", "02"]


async def test_holders_of_one_password_are_ended_by_age(servers: Servers, counts: ConnectionCounts) -> None:
    """The broker lets them in without asking."""
    for at in range(3):
        servers.connect("operator", at)
    await comes(counts, "acme", "other")
    await _counted()
    assert sorted(listed.start[-3:-1] for listed in servers.open) == ["00", "01"]


def test_roles_have_bounds_and_clients_their_own() -> None:
    """A tenant is not a role because it is called so."""
    assert (bound_of_role("acme", "role:one"), bound_of_role("acme", as_client(""))) == (100, 200)
    assert {bound_of_role(role, "") for role in ACCOUNTS} == {1_000}
    assert bound_of_role("acme", "web") is bound_of_role("acme", "") is bound_of_role("operator", "web") is None
