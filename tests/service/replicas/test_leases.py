"""Leases and barriers: no replica decides on settings older than an acknowledged command (ADR 0004)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.bus.connect import connect
from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from service.keys.keyring import Keyring
from service.keys.seal import Seal
from service.registry.registry import Registry
from service.replicas import leases as replicas
from service.replicas.broker_clock import Skew
from service.replicas.leases import LEASE_SECONDS, REQUEST_SECONDS, Replicas, configuration
from tests.broker import Broker

SEAL = Seal(Keyring({1: bytes(32)}))
SOON = 0.2
"""The lease and the longest request, in seconds, in tests that wait for them."""


class SlowLog:
    """A log whose newest setting is `newest`; `before_read` runs before it is read."""

    def __init__(self) -> None:
        self.newest = 0
        self.before_read: Callable[[], Any] = lambda: None

    async def last_setting(self) -> int:
        if (waiting := self.before_read()) is not None:
            await waiting
        return self.newest


class SlowRegistry:
    """A registry that has applied everything up to `applied`, and waits for more."""

    def __init__(self) -> None:
        self.current_until = float("-inf")
        self.applied = 0
        self.progress = asyncio.Condition()

    async def wait_until_applied(self, seq: int) -> None:
        async with self.progress:
            await self.progress.wait_for(lambda: self.applied >= seq)

    async def apply_up_to(self, seq: int) -> None:
        """Apply the log up to `seq`."""
        async with self.progress:
            self.applied = seq
            self.progress.notify_all()


class RightClock:
    """A clock that agrees with the broker's."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def measure(self, connection: Connection) -> None:
        assert connection is self.connection


class Replica:
    """The leases of one replica, on a slow log and a slow registry."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.log, self.registry = connection, SlowLog(), SlowRegistry()
        parts = cast("Log", self.log), cast("Registry", self.registry), cast("Skew", RightClock(connection))
        self.answered = asyncio.Event()
        self.answered.set()
        self.leases = Replicas(connection, *parts, SEAL, self._settled)

    async def start(self) -> None:
        """Take the first lease; requests are at work while `answered` is not set."""
        await self.leases.start(1)

    async def _settled(self) -> None:
        await self.answered.wait()


@asynccontextmanager
async def serving(broker: Broker) -> AsyncIterator[Replica]:
    """A replica with a connection of its own."""
    connection = await connect(broker.url, "test", echo=False)
    replica = Replica(connection)
    await replica.start()
    yield replica
    await replica.leases.stop()
    await connection.close()


@pytest.fixture
async def replica(nats_server: Broker) -> AsyncIterator[Replica]:
    """One that is alone on a broker."""
    async with serving(nats_server) as replica:
        yield replica


async def test_a_lease_counts_from_before_its_renewal(replica: Replica) -> None:
    """The settings it read may be as old as the start of the read. It lasts `LEASE_SECONDS` and no less."""
    loop = asyncio.get_running_loop()
    reading: list[float] = []

    async def read_slowly() -> None:
        reading.append(loop.time())
        await asyncio.sleep(SOON)

    replica.log.before_read = read_slowly
    began = loop.time()
    await replica.leases.renew()
    assert began <= replica.registry.current_until - LEASE_SECONDS <= reading[0]


async def test_a_replica_that_is_behind_gets_no_lease(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """It decides from memory again once it has applied the newest setting."""
    before = replica.registry.current_until
    replica.log.newest = 7
    with monkeypatch.context() as shortened:
        shortened.setattr(replicas, "LEASE_SECONDS", SOON)
        await replica.leases.renew()
    assert replica.registry.current_until == before
    await replica.registry.apply_up_to(7)
    await replica.leases.renew()
    assert replica.registry.current_until > before


async def test_a_replica_that_returned_its_lease_decides_nothing_from_memory(replica: Replica) -> None:
    """It stops before it is removed from the list, for a barrier then does not wait for it."""
    left: list[float] = []
    purge = replica.leases._jetstream.purge_stream

    async def look(*arguments: Any, **options: Any) -> bool:
        left.append(replica.registry.current_until)
        return await purge(*arguments, **options)

    assert replica.registry.current_until > float("-inf")
    replica.leases._jetstream.purge_stream = look  # type: ignore[method-assign]
    await replica.leases.stop()
    assert left == [float("-inf")] and await replica.leases.holders() == []


async def test_a_replica_stops_without_a_broker(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry in the list expires by itself."""

    async def is_away(*_: Any, **_options: Any) -> bool:
        raise NatsError

    with monkeypatch.context() as away:
        away.setattr(replica.leases._jetstream, "purge_stream", is_away)
        await replica.leases.stop()
    assert replica.registry.current_until == float("-inf") and not replica.leases._tasks


async def test_a_replica_is_listed_before_it_reads_the_settings(replica: Replica) -> None:
    """Else a barrier in between would not wait for it, and it would decide on older settings."""
    await replica.leases.stop()
    assert await replica.leases.holders() == []
    listed: list[list[str]] = []

    async def look() -> None:
        listed.append(await replica.leases.holders())

    replica.log.before_read = look
    await replica.leases.renew()
    assert listed == [[replica.leases.replica_id]]


async def test_a_barrier_outlasts_the_lease_and_the_longest_request(
    nats_server: Broker, replica: Replica, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other replica does not reply; a request that it began at the end of its lease may still be answered."""
    async with serving(nats_server) as other:
        other.answered.clear()
        monkeypatch.setattr(replicas, "LEASE_SECONDS", SOON)
        monkeypatch.setattr(replicas, "REQUEST_SECONDS", 3 * SOON)
        monkeypatch.setattr(replicas, "REPLY_TIMEOUT_SECONDS", SOON / 4)
        loop = asyncio.get_running_loop()
        began = loop.time()
        caplog.set_level(logging.INFO, "heirloom.replicas")
        await replica.leases.barrier(0)
        assert loop.time() - began >= 4 * SOON
        named = [record for record in caplog.records if "did not answer" in record.getMessage()]
        assert [getattr(record, "replica", None) for record in named] == [other.leases.replica_id]


async def test_a_barrier_waits_for_requests_at_work(nats_server: Broker, replica: Replica) -> None:
    """Requests decided on older settings are answered before the command, also at its own replica."""
    async with serving(nats_server) as other:
        for busy in (other, replica):
            busy.answered.clear()
            barrier = asyncio.create_task(replica.leases.barrier(0))
            await asyncio.wait((barrier,), timeout=SOON)
            assert not barrier.done()
            busy.answered.set()
            async with asyncio.timeout(LEASE_SECONDS):
                await barrier


async def test_a_barrier_waits_until_the_setting_is_applied(nats_server: Broker, replica: Replica) -> None:
    """By every replica with a lease."""
    async with serving(nats_server) as other:
        await replica.registry.apply_up_to(5)
        barrier = asyncio.create_task(replica.leases.barrier(5))
        await asyncio.wait((barrier,), timeout=SOON)
        assert not barrier.done()
        await other.registry.apply_up_to(5)
        async with asyncio.timeout(LEASE_SECONDS):
            await barrier


async def test_a_restarted_broker_still_lists_lease_holders(
    nats_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A barrier after the restart must wait for them."""
    monkeypatch.setattr(replicas, "RENEW_SECONDS", 60.0)  # no renewal adds it again
    async with serving(nats_server) as replica:
        nats_server.kill()
        nats_server.start()
        connection = await connect(nats_server.url, "test")
        assert await Replica(connection).leases.holders() == [replica.leases.replica_id]
        await connection.close()


async def test_the_stream_of_leases_of_an_earlier_version_is_updated(nats_server: Broker) -> None:
    """It contains nothing that has to be kept."""
    connection = await connect(nats_server.url, "test")
    await connection.jetstream().add_stream(name=replicas.STREAM, subjects=["heirloom.replica.*"], max_age=1000)
    async with serving(nats_server) as replica:
        assert await replica.leases.holders() == [replica.leases.replica_id]
    await connection.close()


def test_an_entry_outlives_every_request_under_its_lease() -> None:
    """A barrier waits only for listed replicas; one entry for each is enough."""
    assert configuration(3) == {
        "name": "REPLICAS",
        "subjects": ["heirloom.replica.*"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": 3,
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_age": 7_000_000_000,
    }
    assert configuration(1)["max_age"] >= (LEASE_SECONDS + REQUEST_SECONDS) * 1e9


async def test_a_barrier_without_the_list_of_leases_is_unavailable(nats_server: Broker, replica: Replica) -> None:
    """A missing list is not an empty one."""
    await replica.connection.jetstream().delete_stream(replicas.STREAM)
    with pytest.raises(Unavailable):
        await replica.leases.barrier(0)


async def test_a_replica_knows_whether_it_is_alone(nats_server: Broker, replica: Replica) -> None:
    """Only then may it keep in memory what others could change."""
    assert replica.leases.is_alone()
    async with serving(nats_server) as other:
        await replica.leases.renew()
        assert not replica.leases.is_alone() and not other.leases.is_alone()
        await replica.leases.barrier(0)
        for leases in (replica.leases, other.leases):
            assert len(leases._tasks) == 1, "only the task that renews the lease is left"
    assert await replica.leases.holders() == [replica.leases.replica_id], "a stopped replica returns only its own lease"
    await replica.leases.renew()
    assert replica.leases.is_alone()


async def test_a_barrier_waits_no_longer_for_its_own_replica_than_for_others(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a request there hangs, its lease ends as others' do."""
    monkeypatch.setattr(replicas, "LEASE_SECONDS", SOON)
    monkeypatch.setattr(replicas, "REQUEST_SECONDS", SOON)
    replica.answered.clear()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(10):
        await replica.leases.barrier(0)
    assert loop.time() - began >= 2 * SOON


async def test_an_undelivered_reply_of_a_replica_is_no_fault(replica: Replica) -> None:
    """The asking replica asks again, or waits until the lease ends."""

    async def respond(_body: bytes) -> None:
        raise NatsError

    subject = "heirloom.applied.x"
    asked = SimpleNamespace(subject=subject, data=SEAL.close(subject, b"0"), respond=respond)
    await replica.leases._answer(cast("Any", asked))


async def test_a_lease_is_renewed(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again."""
    await replica.leases.stop()
    monkeypatch.setattr(replicas, "RENEW_SECONDS", 0.01)
    await replica.start()
    for _ in range(2):
        before = replica.registry.current_until
        async with asyncio.timeout(10):
            while replica.registry.current_until == before:
                await asyncio.sleep(0.01)


async def test_a_failed_renewal_is_logged(replica: Replica, caplog: pytest.LogCaptureFixture) -> None:
    """With the kind of failure; the replica goes on trying."""

    async def is_away() -> None:
        raise Unavailable("away")

    caplog.set_level(logging.INFO, "heirloom.replicas")
    replica.log.before_read = is_away
    await replica.leases.renew()
    assert [record.getMessage() for record in caplog.records] == ["the lease is not renewed: Unavailable"]


@pytest.mark.parametrize("answer", [NatsError(), b"{}"], ids=["silence", "an error"])
async def test_the_broker_is_asked_for_lease_holders(answer: Exception | bytes) -> None:
    """For a second; without an answer it is an error, and not an empty list."""
    asked: list[tuple[Any, ...]] = []

    async def request(*question: Any, **options: float) -> Any:
        asked.append((*question, options))
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(data=answer)

    connection = SimpleNamespace(
        jetstream=lambda **options: asked.append((options,)), jetstream_api="$JS.API", request=request
    )
    nothing = cast("Any", None)
    leases = Replicas(cast("Any", connection), nothing, cast("Any", SlowRegistry()), nothing, SEAL, nothing)
    assert asked.pop() == ({"timeout": 1},)
    assert leases.is_alone()
    with pytest.raises(Unavailable, match="who else serves cannot be read now"):
        await leases.holders()
    question = b'{"subjects_filter":"heirloom.replica.*"}'
    assert asked == [("$JS.API.STREAM.INFO.REPLICAS", question, {"timeout": 1})]


async def test_only_the_replica_itself_answers_a_barrier(nats_server: Broker, replica: Replica) -> None:
    """Else a barrier could end before the replica has applied the setting."""
    async with serving(nats_server) as other:
        await replica.registry.apply_up_to(5)
        connection = await connect(nats_server.url, "nobody")

        async def answer(message: Msg) -> None:
            for body in (b"", b"5", message.data):
                await message.respond(body)

        await connection.subscribe(f"heirloom.applied.{other.leases.replica_id}", cb=answer)
        await connection.flush()
        barrier = asyncio.create_task(replica.leases.barrier(5))
        await asyncio.wait((barrier,), timeout=SOON)
        assert not barrier.done()
        await connection.close()
        await other.registry.apply_up_to(5)
        async with asyncio.timeout(LEASE_SECONDS):
            await barrier


async def test_only_replicas_ask_a_replica_to_apply(nats_server: Broker, replica: Replica) -> None:
    """Else requests for sequences that never come would accumulate."""
    connection = await connect(nats_server.url, "nobody")
    for body in (b"", b"999999", b"junk"):
        await connection.publish(f"heirloom.applied.{replica.leases.replica_id}", body, reply="_INBOX.nobody.x")
    await connection.flush()
    await connection.close()
    await replica.connection.flush()
    async with asyncio.timeout(10):
        while len(replica.leases._tasks) > 1:  # the one that keeps the lease
            await asyncio.sleep(0.01)
