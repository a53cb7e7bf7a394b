"""Reading the log by batched direct get: all of it in order, despite gaps, cut replies, stale replicas and restarts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg

from events.aggregates.aggregate_names import EVERYTHING, STREAM
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.direct_reader import message_at, read_direct
from events.log.direct_response import DirectGet
from events.log.jetstream_api import Unavailable
from events.log.stored_message import StoredMessage
from heirloom.cli.audit.verify import verify_log
from tests.broker import Broker
from tests.projections.logs import eventful_log

LOG = eventful_log()
END = len(LOG)
BEHIND, BEYOND = "behind.API", 1 << 40
STARTED = datetime.now(UTC)


@pytest.fixture
async def connection(nats_server: Broker) -> AsyncIterator[Connection]:
    """A connection to a broker without a log."""
    connection = await connect(nats_server.url, "test")
    yield connection
    await connection.close()


async def write(connection: Connection, log: list[StoredMessage] = LOG, missing: tuple[int, ...] = ()) -> None:
    """Create a log of these commits without the log's protection, and delete the `missing` ones."""
    unprotected = stream.configuration(stream.Required()) | {"deny_delete": False}
    await ask(connection, f"STREAM.CREATE.{STREAM}", unprotected)
    for stored in log:
        # a message's own headers do not count as the broker's
        await connection.jetstream().publish(stored.subject, stored.body, headers={"Nats-Sequence": "77"})
    for seq in missing:
        await ask(connection, f"STREAM.MSG.DELETE.{STREAM}", {"seq": seq})


async def ask(connection: Connection, operation: str, request: dict[str, Any]) -> None:
    """A JetStream request that must succeed."""
    reply = await connection.request(f"$JS.API.{operation}", msgspec.json.encode(request), timeout=5)
    assert "error" not in msgspec.json.decode(reply.data)


async def everything(connection: Connection, start: int = 1, **how: Any) -> list[StoredMessage]:
    """Everything that is read."""
    found: list[StoredMessage] = []
    async with aclosing(read_direct(connection, start, **how)) as batches:
        async for batch in batches:
            assert batch.messages
            found += batch.messages
    return timeless(found)


def timeless(found: list[StoredMessage]) -> list[StoredMessage]:
    """The commits without their storing times, which must be there."""
    assert all(stored.stored_at is not None and stored.stored_at > STARTED for stored in found)
    return [replace(stored, stored_at=None) for stored in found]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_any_part_of_the_log(connection: Connection, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Any range, also past the end; one family, one commit, or nothing; with requests of any size."""
    monkeypatch.setattr("events.log.direct_reader.REQUEST_SIZE", size)
    await write(connection)
    for start, until in ((1, END), (1, 1), (9, 23), (END, END), (1, 1 << 60)):
        assert await everything(connection, start, until=until) == LOG[start - 1 : until]
    of_one = [stored for stored in LOG if stored.subject.startswith("tokens.acme.family.f2.") and stored.seq <= 40]
    assert await everything(connection, until=40, filter="tokens.acme.family.f2.*") == of_one
    for nothing in ({"start": END + 1, "until": END}, {"start": END + 1, "until": 1 << 60}, {"until": 0}):
        assert await everything(connection, **nothing) == []
    assert await everything(connection, until=END, filter="tokens.acme.family.nobody.*") == []
    third = await message_at(connection, 3)
    assert third is not None and timeless([third]) == [LOG[2]]
    assert await message_at(connection, END + 1) is None


@pytest.mark.parametrize("missing", [(1,), (2, 3), tuple(range(5, 40)), (END - 1, END), tuple(range(1, END + 1))])
async def test_missing_messages_are_left_out(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, missing: tuple[int, ...]
) -> None:
    """At the beginning, within, at the end, or over several requests: all others are read once."""
    monkeypatch.setattr("events.log.direct_reader.REQUEST_SIZE", 8)
    await write(connection, missing=missing)
    rest = [stored for stored in LOG if stored.seq not in missing]
    assert await everything(connection, until=END) == rest
    of_family = [stored for stored in rest if ".family." in stored.subject]
    assert await everything(connection, until=END, filter="tokens.*.family.*.*") == of_family


async def test_requests_may_be_cut_short(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker sends less than requested if it is much; no message is left out."""
    monkeypatch.setattr("events.log.direct_reader.REQUEST_BYTES", 3000)
    await write(connection)
    assert await everything(connection, until=END) == LOG


async def test_a_broker_killed_while_reading(nats_server: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading continues at the next commit; if the broker does not come back, it is an error."""
    monkeypatch.setattr("events.log.direct_reader.REQUEST_SIZE", 8)
    monkeypatch.setattr("events.log.direct_reader.SILENCE_SECONDS", 0.5)
    connection = await connect(nats_server.url, "test", patient=False)
    connection.outlast_brokers()
    await write(connection)
    found: list[StoredMessage] = []
    async with aclosing(read_direct(connection, until=END)) as batches:
        async for batch in batches:
            found += batch.messages
            if len(found) == 16:
                nats_server.kill()
                nats_server.start()
    assert timeless(found) == LOG
    monkeypatch.setattr("events.log.direct_reader.STALL_TIMEOUT_SECONDS", 0.3)
    nats_server.kill()
    with pytest.raises(Unavailable, match="stopped before sequence 1: the broker"):
        await everything(connection, until=END)
    await connection.close()


@pytest.mark.parametrize("lost", [1, 5, 8, 9])
async def test_an_incomplete_reply_is_requested_again(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Its first or last message, one within, or its end is lost: that is no gap."""
    monkeypatch.setattr("events.log.direct_reader.REQUEST_SIZE", 8)
    monkeypatch.setattr("events.log.direct_reader.SILENCE_SECONDS", 0.3)
    count, take = 0, DirectGet.receive

    def lose(request: DirectGet, headers: bytes, body: bytes) -> None:
        nonlocal count
        count += 1
        if count != lost:
            take(request, headers, body)

    monkeypatch.setattr(DirectGet, "receive", lose)
    await write(connection)
    assert await everything(connection, until=END) == LOG


async def test_it_follows_the_log(connection: Connection) -> None:
    """Without an end it waits for new commits."""
    await write(connection, LOG[:5])
    found: list[StoredMessage] = []
    async with aclosing(read_direct(connection, 3)) as batches:
        async for batch in batches:
            found += batch.messages
            if len(found) == END - 2:
                break
            for stored in LOG[5:]:
                await connection.jetstream().publish(stored.subject, stored.body)
    assert timeless(found) == LOG[2:]


class Behind:
    """A replica without the messages after `at`; the leader's replies pass unchanged."""

    def __init__(self, connection: Connection, at: int) -> None:
        self._connection = connection
        self.at = at
        self.refused = asyncio.Event()
        self.leader_is_silent = False

    async def answer(self, message: Msg) -> None:
        """Have the broker answer the request, reduced to what the replica has."""
        operation, question = message.subject.removeprefix(f"{BEHIND}."), msgspec.json.decode(message.data)
        if operation.startswith("DIRECT.GET."):
            there = self.at - question["seq"] + 1
            if there > 0:
                question |= {"batch": min(there, question.get("batch", 1))}
            else:
                question["seq"] = BEYOND
                self.refused.set()
        elif self.leader_is_silent and question:  # it is about what lies in the stream
            return
        await self._connection.publish(f"$JS.API.{operation}", msgspec.json.encode(question), reply=message.reply)


@pytest.mark.parametrize("filter", [EVERYTHING, "tokens.*.family.*.*"])
async def test_a_replica_that_is_behind(connection: Connection, monkeypatch: pytest.MonkeyPatch, filter: str) -> None:
    """It is asked again until it has what the leader has; one that stays behind is an error."""
    await write(connection)
    wanted = [stored for stored in LOG if filter == EVERYTHING or ".family." in stored.subject]
    replica = Behind(connection, 20)
    await connection.subscribe(f"{BEHIND}.>", cb=replica.answer)
    connection.jetstream_api = BEHIND
    reading = asyncio.create_task(everything(connection, until=END, filter=filter))
    await replica.refused.wait()
    replica.at = END
    assert await reading == wanted
    replica.at = 20
    monkeypatch.setattr("events.log.direct_reader.STALL_TIMEOUT_SECONDS", 0.3)
    with pytest.raises(Unavailable, match="less than the log's leader"):
        await everything(connection, until=END, filter=filter)


async def test_a_silent_leader_is_no_end_of_the_log(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica has no more, and it is unknown whether the log has: the read is incomplete."""
    monkeypatch.setattr("events.log.jetstream_api.REPLY_TIMEOUT_SECONDS", 0.1)
    await write(connection)
    replica = Behind(connection, 20)
    replica.leader_is_silent = True
    await connection.subscribe(f"{BEHIND}.>", cb=replica.answer)
    connection.jetstream_api = BEHIND
    with monkeypatch.context() as patient:
        patient.setattr("events.log.direct_reader.STALL_TIMEOUT_SECONDS", 0.3)
        with pytest.raises(Unavailable, match="stopped before sequence 21"):
            await everything(connection, until=END)
    reading = asyncio.create_task(everything(connection, until=END))
    await replica.refused.wait()
    replica.at, replica.leader_is_silent = END, False
    assert await reading == LOG


async def test_verify_names_the_first_missing_sequence(connection: Connection) -> None:
    await write(connection, missing=(9, 10, 30))
    fault = (await verify_log(connection, END, lambda _: None)).fault
    assert fault is not None
    assert fault.seq == 9
