"""What the reactor works on is nobody else's meanwhile, and everything that it is handed is done with some time."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from events import bus, subjects
from events import subject as person
from events.log import Log
from events.pulled import NotHandedOut, Pulled
from service import reactor
from service.aggregates import change
from service.completed import CONSUMER
from service.context import Context
from service.reactor import Reactor
from tests.broker import Broker
from tests.events.foreign_headers import HEADERS, store


async def test_what_is_kept_is_not_handed_out_again(nats_server: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes; afterwards, without an acknowledgement, the next replica gets it."""
    patience = 0.4
    monkeypatch.setattr(reactor, "ACK_WAIT_SECONDS", patience)
    connection = await bus.connect(nats_server.url, "test")
    try:
        jetstream = connection.jetstream()
        await jetstream.add_stream(StreamConfig(name="WORK", subjects=["work"]))
        await jetstream.add_consumer(
            "WORK", ConsumerConfig(durable_name="shared", ack_policy=AckPolicy.EXPLICIT, ack_wait=patience)
        )
        await jetstream.publish("work", b"a cut-off")
        one, other = [await jetstream.pull_subscribe_bind("shared", "WORK") for _ in range(2)]
        (message,) = await one.fetch(1, timeout=5)
        async with reactor._kept(message):
            with pytest.raises(NatsTimeoutError):
                await other.fetch(1, timeout=4 * patience)
        (again,) = await other.fetch(1, timeout=5)
        assert again.metadata.num_delivered == 2
    finally:
        await connection.close()


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
async def test_a_cut_off_is_complete_behind_what_is_foreign(
    nats_server: Broker, connection: bus.Connection, headers: bytes
) -> None:
    """What is no commit is handed out like one, whatever headers it was stored with, and acknowledged."""
    completed: asyncio.Queue[int] = asyncio.Queue()

    async def live(*_: object) -> AsyncIterator[list[Any]]:
        yield []

    log = Log(connection)
    await log.start()
    context = SimpleNamespace(
        log=log,
        read_model=SimpleNamespace(live=live),
        completed=SimpleNamespace(tell=completed.put),
        skew=SimpleNamespace(is_right=lambda: True),
    )
    foreign = await store(connection, nats_server.url, "tokens.acme.tenant", headers)
    alice = subjects.subject("acme", "alice")
    block = (person.SubjectBlocked("alice"),)
    blocked = (await change(log, alice, person.codec, person.evolve, lambda _: block, "operator")).stored.seq
    running = asyncio.create_task(Reactor(connection, cast("Context", context)).run())
    try:
        async with asyncio.timeout(10):
            assert {await completed.get(), await completed.get()} == {foreign, blocked}
            while await log.finished(CONSUMER) < blocked:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def test_what_has_arrived_and_nobody_took_is_handed_out_again(connection: bus.Connection) -> None:
    """At once; a consumer that is not there is no silence."""
    jetstream = connection.jetstream()
    await jetstream.add_stream(StreamConfig(name="WORK", subjects=["work"]))
    one, other = Pulled(connection, "WORK", "shared"), Pulled(connection, "WORK", "shared")
    for puller in (one, other):
        await puller.start()
    with pytest.raises(NotHandedOut, match="503"):
        await one.next()
    await jetstream.add_consumer(
        "WORK", ConsumerConfig(durable_name="shared", ack_policy=AckPolicy.EXPLICIT, ack_wait=60)
    )
    taking = asyncio.create_task(one.next())
    await asyncio.sleep(0)
    await connection.flush()
    taking.cancel()  # what it asked for is under way
    await jetstream.publish("work", b"a cut-off")
    while one._arrived.empty():
        await asyncio.sleep(0.01)
    await one.close()
    again = await other.next()
    assert again is not None and (again.data, again.metadata.num_delivered) == (b"a cut-off", 2)
    await other.close()
