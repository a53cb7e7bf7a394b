"""A client's connections stay within its bound at all replicas; `security/test_connecting` tests the broker's part."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.connections import connection_counts
from service.connections.admission import Admitted
from service.connections.connection_counts import MAX_CONNECTIONS_OF_PERSON, MAX_WAITING, ConnectionCounts
from service.connections.disconnect import Listed
from service.connections.token_connections import TokenConnection
from service.registry.broker_accounts import CLIENTS_ACCOUNT, PERSONS_ACCOUNT, ROLE_ACCOUNTS
from service.registry.named_role import as_client, bound_of_role


class Servers:
    """Two servers of a broker, and their connections."""

    def __init__(self) -> None:
        self.open: list[Listed] = []
        self.asked = self.let_in = self.kicked = 0
        self.listed: list[Listed] = []
        self.is_slow = False
        self.answering = asyncio.Semaphore()

    async def list_all(self, receive: Callable[[Listed], None]) -> None:
        """All servers answer, with the connections they had when they were asked."""
        self.asked += 1
        found = list(self.open)
        await self.answering.acquire()
        if not self.is_slow:
            self.answering.release()
        for listed in found:
            receive(listed)

    async def kick(self, listed: Listed) -> None:
        self.open.remove(listed)
        self.kicked += 1

    def slow_down(self) -> None:
        """From now on they answer once for each release of `answering`."""
        self.is_slow, self.answering = True, asyncio.Semaphore(0)

    def connect(self, user: str, at: int, server: str = "one", account: str = CLIENTS_ACCOUNT) -> None:
        """Some replica admits this connection."""
        self.let_in += 1
        self.open.append(Listed(server, self.let_in, user, f"2026-11-29T12:00:{at:02}Z", account))


@pytest.fixture
def servers() -> Servers:
    return Servers()


def _bound(tenant: str, client_id: str) -> int | None:
    if client_id == as_client(""):
        return 3
    return 2 if tenant in ("acme", "operator") else None


@pytest.fixture
async def counts(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ConnectionCounts]:
    """The counts of a started replica; clients of acme may have two connections each."""
    monkeypatch.setattr(connection_counts, "COUNT_PAUSE_SECONDS", 0)
    counts = ConnectionCounts(servers, _bound, servers.listed.append)
    await counts.start()
    await _counted()
    yield counts
    await counts.stop()


async def admitted(counts: ConnectionCounts, tenant: str, client_id: str) -> bool:
    """Whether one more is admitted, now or after the next count, as the callout decides it."""
    return counts.try_take(tenant, client_id) or await counts.try_take_later(tenant, client_id)


async def _counted() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_connection_more_than_the_bound_is_refused(servers: Servers, counts: ConnectionCounts) -> None:
    """Admissions count before any server lists them; each client has its own bound."""
    for at in range(2):
        assert await admitted(counts, "acme", "web")
        servers.connect("acme/web", at)
    assert not await admitted(counts, "acme", "web")
    assert await admitted(counts, "acme", "other") and await admitted(counts, "globex", "web")


async def test_admissions_count_until_the_servers_have_answered(servers: Servers, counts: ConnectionCounts) -> None:
    """Also those from before the servers were asked, which no finished count contains."""
    servers.slow_down()
    for at in range(2):
        assert counts.try_take("acme", "web")
        servers.connect("acme/web", at)
    await _counted()
    assert servers.asked == 2 and not counts.try_take("acme", "web")
    servers.answering.release()
    await _counted()
    assert not counts.try_take("acme", "web")
    servers.open.pop()
    servers.answering.release()
    servers.answering.release()
    assert await counts.try_take_later("acme", "web")


@given(st.lists(st.sampled_from(["comes", "comes", "goes", "answer"]), max_size=60))
def test_one_replica_never_exceeds_the_bound(steps: list[str]) -> None:
    """In any order of connects and disconnects, however slow the servers are; no admitted connection is ended."""
    asyncio.run(_follow(steps))


async def _follow(steps: list[str]) -> None:
    servers = Servers()
    servers.slow_down()
    counts = ConnectionCounts(servers, _bound, servers.listed.append)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connection_counts, "COUNT_PAUSE_SECONDS", 0)
        await counts.start()
        for at, step in enumerate(steps):
            if step == "comes" and counts.try_take("acme", "web"):
                servers.connect("acme/web", at)
            elif step == "goes" and servers.open:
                servers.open.pop(0)
            elif step == "answer":
                servers.answering.release()
            await _counted()
            assert len(servers.open) <= 2 and not servers.kicked
        servers.is_slow = False
        servers.answering.release()
        assert await admitted(counts, "acme", "web") == (len(servers.open) < 2), "and closed connections make room"
        await counts.stop()


async def test_waiting_for_a_count_ends_when_the_replica_stops(servers: Servers, counts: ConnectionCounts) -> None:
    servers.slow_down()
    for at in range(2):
        servers.connect("acme/web", at)
        assert counts.try_take("acme", "web")
    waiting = asyncio.create_task(counts.try_take_later("acme", "web"))
    await _counted()
    assert not waiting.done()
    await counts.stop()
    async with asyncio.timeout(10):
        assert not await waiting
    assert not await counts.try_take_later("acme", "web") and await admitted(counts, "acme", "other")


async def test_connections_by_token_count_as_the_clients(servers: Servers, counts: ConnectionCounts) -> None:
    """A client gets no more connections by using a token for each."""
    servers.connect("acme/web", 1)
    servers.connect("acme/web/family/jti/1700000000", 2, "two")
    await admitted(counts, "acme", "other")
    await _counted()
    assert not await admitted(counts, "acme", "web")


async def test_a_persons_token_uses_none_of_its_clients_connections(servers: Servers, counts: ConnectionCounts) -> None:
    """Each person's grant has a bound of its own, over all its tokens."""
    jtis = [f"jti-{at}" for at in range(MAX_CONNECTIONS_OF_PERSON)]
    persons = [
        Admitted("acme", "web", TokenConnection("acme", "web", "family", jti, 1_700_000_000), (jti,)) for jti in jtis
    ]
    assert {person.counted for person in persons} == {"person:family"}
    for at, person in enumerate(persons):
        assert await admitted(counts, "acme", person.counted)
        assert person.token_connection is not None
        servers.connect(person.token_connection.user, at, account=PERSONS_ACCOUNT)
    await _counted()
    assert not await admitted(counts, "acme", persons[0].counted)
    assert await admitted(counts, "acme", "person:another")
    assert [await admitted(counts, "acme", "web") for _ in range(2)] == [True, True]
    assert len(servers.open) == MAX_CONNECTIONS_OF_PERSON


async def test_a_closed_connection_makes_room(servers: Servers, counts: ConnectionCounts) -> None:
    """So does an admitted connection that was never opened."""
    for _ in range(20):  # one after the other, however fast
        assert await admitted(counts, "acme", "web")


async def test_waiting_for_room_delays_nobody_else(servers: Servers, counts: ConnectionCounts) -> None:
    """At most `MAX_WAITING` of one client wait for the next count; all others are refused at once."""
    for at in range(2):
        servers.connect("acme/web", at)
    await admitted(counts, "acme", "other")
    await _counted()
    asked = [asyncio.create_task(admitted(counts, "acme", "web")) for _ in range(50)]
    await asyncio.sleep(0)
    assert sum(task.done() for task in asked) == 50 - MAX_WAITING
    assert await asyncio.gather(*asked) == [False] * 50


async def test_connections_that_replicas_admitted_at_once_are_ended_by_age(
    servers: Servers, counts: ConnectionCounts
) -> None:
    """Each replica admitted two: the two newest are ended, as every replica would choose."""
    for at, server in ((4, "one"), (1, "two"), (3, "two"), (2, "one")):
        servers.connect("acme/web", at, server)
    servers.connect("acme/other", 9)
    await admitted(counts, "acme", "web")
    await _counted()
    assert sorted(listed.start[-3:-1] for listed in servers.open) == ["01", "02", "09"]


async def test_the_servers_are_not_asked_while_nobody_connects(servers: Servers, counts: ConnectionCounts) -> None:
    before = servers.asked
    await _counted()
    assert servers.asked == before


async def test_connections_admitted_elsewhere_are_found_after_a_while(
    servers: Servers, counts: ConnectionCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replica that admitted them may stop before anybody connects to this one."""
    monkeypatch.setattr(connection_counts, "ADMISSIONS_SETTLED_SECONDS", 0)
    counts.try_take("acme", "other")  # from the next count on it waits no longer than that
    await _counted()
    servers.connect("acme/web", 1)
    async with asyncio.timeout(10):
        while not servers.listed:
            await asyncio.sleep(0)
    assert {each.user for each in servers.listed} == {"acme/web"}


async def test_all_role_names_of_a_tenant_share_a_bound(servers: Servers, counts: ConnectionCounts) -> None:
    """Else a tenant's operator could add names until other tenants and the machine's operator find no room."""
    for at, name in enumerate(("one", "one", "two")):
        assert await admitted(counts, "acme", f"role:{name}")
        servers.connect(f"acme/role:{name}", at)
    assert not await admitted(counts, "acme", "role:three")
    assert await admitted(counts, "globex", "role:one") and await admitted(counts, "acme", "web")


async def test_role_connections_admitted_at_once_are_ended_by_age(servers: Servers, counts: ConnectionCounts) -> None:
    """By the shared bound of all names, as by each one's own."""
    for at, name in enumerate(("one", "two", "three", "four", "one")):
        servers.connect(f"acme/role:{name}", at)
    await admitted(counts, "acme", "other")
    await _counted()
    assert sorted(listed.start[-3:-1] for listed in servers.open) == ["00", "01", "02"]


async def test_connections_by_one_password_are_ended_by_age(servers: Servers, counts: ConnectionCounts) -> None:
    """The broker admits them without the callout."""
    for at in range(3):
        servers.connect("operator", at)
    await admitted(counts, "acme", "other")
    await _counted()
    assert sorted(listed.start[-3:-1] for listed in servers.open) == ["00", "01"]


def test_roles_have_bounds_and_clients_have_their_own() -> None:
    """A tenant named `operator` is not the role."""
    assert (bound_of_role("acme", "role:one"), bound_of_role("acme", as_client(""))) == (100, 200)
    assert {bound_of_role(role, "") for role in ROLE_ACCOUNTS} == {1_000}
    assert bound_of_role("acme", "web") is bound_of_role("acme", "") is bound_of_role("operator", "web") is None
