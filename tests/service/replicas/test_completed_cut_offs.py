"""Waiting for the completion of a cut-off: it ends by one of two ways, and never before."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from nats.js.client import JetStreamContext

from events.aggregates.aggregate_names import STREAM
from events.bus.connect import connect
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from service.keys.keyring import Keyring
from service.keys.seal import Seal
from service.replicas import completed_cut_offs
from service.replicas.completed_cut_offs import CONSUMER, CompletedCutOffs
from tests.broker import Broker

SEAL = Seal(Keyring({1: bytes(32)}))


class World:
    """Two replicas, and a log with two cut-offs; neither is complete."""

    def __init__(self, one: CompletedCutOffs, other: CompletedCutOffs, work: JetStreamContext.PullSubscription) -> None:
        self.one, self.other, self.work = one, other, work


@pytest.fixture
async def world(nats_server: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Two replicas with a short timeout."""
    monkeypatch.setattr(completed_cut_offs, "COMPLETION_TIMEOUT_SECONDS", 0.5)
    connections = [await connect(nats_server.url, "test") for _ in range(2)]
    jetstream = connections[0].jetstream()
    await jetstream.add_stream(StreamConfig(name=STREAM, subjects=["tokens.>"]))
    shared = ConsumerConfig(durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT)
    await jetstream.add_consumer(STREAM, shared)
    for _ in range(2):
        await jetstream.publish("tokens.acme.subject.x", b"a cut-off")
    one, other = (CompletedCutOffs(connection, Log(connection), SEAL) for connection in connections)
    for replica, connection in zip((one, other), connections, strict=True):
        await replica.start()
        await connection.flush()
    yield World(one, other, await jetstream.pull_subscribe_bind(CONSUMER, STREAM))
    for connection in connections:
        await connection.close()


async def test_a_cut_off_is_complete_while_an_older_one_is_not(world: World) -> None:
    """Every replica knows, also those where nobody waited; those who wait for the older one go on waiting."""
    long_one, _ = await world.work.fetch(2, timeout=5)
    assert not await world.one.wait(2)
    await world.other.publish(2)
    assert await world.one.wait(2) and await world.other.wait(2)
    assert not await world.one.wait(1)
    await long_one.ack_sync()
    assert await world.one.wait(1)


async def test_a_lost_completion_message_is_made_good(world: World) -> None:
    """All cut-offs up to the first unacknowledged one are complete."""
    for message in await world.work.fetch(2, timeout=5):
        await message.ack_sync()
    assert await world.one.wait(2)


async def _fails(*_: Any) -> int:
    raise NatsError


async def _is_away(*_: Any) -> int:
    raise Unavailable("away")


async def test_all_who_wait_here_are_woken_at_once_even_without_a_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exactly those who wait for that cut-off; afterwards no entry is left."""
    monkeypatch.setattr(completed_cut_offs, "CONSUMER_CHECK_SECONDS", 3600.0)
    away = SimpleNamespace(publish=_fails), SimpleNamespace(finished=_is_away)
    one = CompletedCutOffs(cast("Any", away[0]), cast("Any", away[1]), SEAL)
    waiting = [asyncio.create_task(one.wait(seq)) for seq in (7, 7, 8)]
    await asyncio.sleep(0)
    await one.publish(7)
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting[:2]) == [True, True]
    assert not waiting[2].done() and list(one._waiting) == [8]
    one._receive(b"heirloom.completed.8", b"", SEAL.close("heirloom.completed.8", b""), None)
    async with asyncio.timeout(10):
        assert await waiting[2]
    assert not one._waiting


async def test_an_incomplete_cut_off_is_not_reported_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends after a while, also if the broker is away."""
    monkeypatch.setattr(completed_cut_offs, "COMPLETION_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(completed_cut_offs, "CONSUMER_CHECK_SECONDS", 0.01)
    one = CompletedCutOffs(cast("Any", None), cast("Any", SimpleNamespace(finished=_is_away)), SEAL)
    assert not await one.wait(7)
    assert not one._waiting


async def test_only_replicas_report_a_completion(world: World) -> None:
    """CONTRACT §5: others that can publish there could have an unfinished cut-off acknowledged."""
    for body in (b"", SEAL.close("heirloom.completed.1", b"")):
        await world.other._connection.publish("heirloom.completed.2", body)
    await world.other._connection.flush()
    assert not await world.one.wait(2)
