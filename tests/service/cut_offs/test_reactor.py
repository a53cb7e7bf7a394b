"""What the reactor works on is handed to no other replica, and all that it receives is completed in the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig

from events.aggregates import aggregate_names
from events.aggregates import subject as person
from events.bus.connection import Connection
from events.jetstream.pull_consumer import DeliveryFailed, PullConsumer
from events.log.log import Log
from events.task_cancellation import end
from service.context import AdminContext
from service.cut_offs import reactor
from service.cut_offs.reactor import Reactor
from service.registry.change_aggregate import change
from service.replicas.completed_cut_offs import CONSUMER
from tests.broker import Broker
from tests.events.log.foreign_headers import HEADERS, store


async def test_a_message_at_work_is_not_redelivered(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the work takes; afterwards, without an acknowledgement, the next replica receives it."""
    ack_wait = 0.4
    monkeypatch.setattr(reactor, "ACK_WAIT_SECONDS", ack_wait)
    jetstream = connection.jetstream()
    await jetstream.add_stream(StreamConfig(name="WORK", subjects=["work"]))
    await jetstream.add_consumer(
        "WORK", ConsumerConfig(durable_name="shared", ack_policy=AckPolicy.EXPLICIT, ack_wait=ack_wait)
    )
    await jetstream.publish("work", b"a cut-off")
    one, other = [await jetstream.pull_subscribe_bind("shared", "WORK") for _ in range(2)]
    (message,) = await one.fetch(1, timeout=5)
    async with reactor._kept(message):
        with pytest.raises(NatsTimeoutError):
            await other.fetch(1, timeout=4 * ack_wait)
    (again,) = await other.fetch(1, timeout=5)
    assert again.metadata.num_delivered == 2


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
async def test_cut_offs_are_completed_behind_foreign_messages(
    nats_server: Broker, connection: Connection, log: Log, headers: bytes
) -> None:
    """A foreign message with any headers is acknowledged; a cut-off from before the consumer is completed."""
    foreign = await store(connection, nats_server.url, "tokens.acme.tenant", headers)
    blocked = await block_alice(log)
    async with reacting(connection, log) as completed:
        assert {await completed.get(), await completed.get()} == {foreign, blocked}
        while not await log.finished(CONSUMER, blocked):
            await asyncio.sleep(0.01)


async def block_alice(log: Log) -> int:
    """Block alice; return the sequence of the commit."""
    block = (person.SubjectBlocked("alice"),)
    alice = aggregate_names.subject("acme", "alice")
    return (await change(log, alice, lambda _: block)).stored.seq


@contextlib.asynccontextmanager
async def reacting(connection: Connection, log: Log) -> AsyncIterator[asyncio.Queue[int]]:
    """Run a reactor without any families; yields a queue of completed sequences."""
    completed: asyncio.Queue[int] = asyncio.Queue()

    async def live(*_: object) -> AsyncIterator[list[Any]]:
        yield []

    context = SimpleNamespace(
        log=log,
        read_model=SimpleNamespace(live=live),
        completed=SimpleNamespace(publish=completed.put),
        skew=SimpleNamespace(is_right=lambda: True),
    )
    running = asyncio.create_task(Reactor(connection, cast("AdminContext", context)).run())
    try:
        async with asyncio.timeout(10):
            yield completed
    finally:
        await end((running,))


ANOTHERS = {
    "it delivers to a stranger": ConsumerConfig(deliver_subject="revoked.acme.nobody"),
    "it acknowledges for itself": ConsumerConfig(ack_policy=AckPolicy.NONE),
    "it is for other subjects": ConsumerConfig(filter_subjects=["tokens.*.role.*"]),
    "it begins later": ConsumerConfig(deliver_policy=DeliverPolicy.NEW),
    "it delivers once": ConsumerConfig(max_deliver=1),
    "it waits for a year": ConsumerConfig(pause_until="2999-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("kind", ANOTHERS)
async def test_a_consumer_with_another_configuration_is_replaced(kind: str, connection: Connection, log: Log) -> None:
    """Cut-offs from before are carried out, and the consumer has our configuration."""
    blocked = await block_alice(log)
    wanted = ConsumerConfig(
        durable_name=CONSUMER,
        filter_subjects=list(aggregate_names.CUT_OFFS),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=3,
        max_ack_pending=16,
    )
    wanted = wanted.evolve(**{name: value for name, value in vars(ANOTHERS[kind]).items() if value is not None})
    if wanted.ack_policy != AckPolicy.EXPLICIT:
        wanted = wanted.evolve(max_ack_pending=None, ack_wait=None)
    jetstream = connection.jetstream()
    await jetstream.add_consumer(aggregate_names.STREAM, wanted)
    async with reacting(connection, log) as completed:
        assert await completed.get() == blocked
    config = (await jetstream.consumer_info(aggregate_names.STREAM, CONSUMER)).config
    assert (config.deliver_subject, config.ack_policy, config.filter_subjects, config.max_deliver) == (
        *(None, AckPolicy.EXPLICIT, list(aggregate_names.CUT_OFFS), -1),
    )


async def test_the_reactors_own_consumer_is_kept(connection: Connection, log: Log) -> None:
    """It keeps its acknowledgements."""
    context = cast("AdminContext", SimpleNamespace(log=log))
    for _ in range(2):
        await Reactor(connection, context).start()
    jetstream = connection.jetstream()
    made = (await jetstream.consumer_info(aggregate_names.STREAM, CONSUMER)).created
    await Reactor(connection, context).start()
    assert (await jetstream.consumer_info(aggregate_names.STREAM, CONSUMER)).created == made


async def test_a_lasting_refusal_is_logged_as_an_error_once(
    connection: Connection, log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else nobody would notice among frequent lines of lower level that no cut-off is carried out."""
    monkeypatch.setattr(reactor, "FAILURES_BEFORE_ERROR", 3)
    monkeypatch.setattr(reactor, "RETRY_SECONDS", 0)
    caplog.set_level("INFO", "heirloom.reactor")
    await connection.jetstream().delete_stream(aggregate_names.STREAM)
    async with reacting(connection, log):
        while len(caplog.records) < 6:
            await asyncio.sleep(0.01)
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert error.getMessage() == "no cut-off is carried out: the broker refuses the consumer reactor: stream not found"


async def test_an_unhandled_message_is_redelivered_at_once(connection: Connection) -> None:
    """Pulling from a missing consumer fails instead of waiting."""
    jetstream = connection.jetstream()
    await jetstream.add_stream(StreamConfig(name="WORK", subjects=["work"]))
    one, other = PullConsumer(connection, "WORK", "shared"), PullConsumer(connection, "WORK", "shared")
    for puller in (one, other):
        await puller.start()
    with pytest.raises(DeliveryFailed, match="503"):
        await one.next()
    await jetstream.add_consumer(
        "WORK", ConsumerConfig(durable_name="shared", ack_policy=AckPolicy.EXPLICIT, ack_wait=60)
    )
    taking = asyncio.create_task(one.next())
    await asyncio.sleep(0)
    await connection.flush()
    taking.cancel()  # its request is already sent
    await jetstream.publish("work", b"a cut-off")
    while one._arrived.empty():
        await asyncio.sleep(0.01)
    await one.close()
    again = await other.next()
    assert again is not None and (again.data, again.metadata.num_delivered) == (b"a cut-off", 2)
    await other.close()
