"""Every revoking commit is in the feed once and in order, whatever happens to its publishers."""

import asyncio
import random
from contextlib import suppress
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from nats.errors import Error as NatsError

from events.aggregates.aggregate_names import AggregateName
from events.aggregates.client import ClientConfigured, codec, evolve
from events.aggregates.commit import Commit
from events.aggregates.settings import ClientSettings
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log.direct_reader import message_at
from events.log.jetstream_api import JetStreamMissing
from events.log.log import Log
from events.log.stored_message import StoredMessage
from events.log.stream import REVOKED, last_sequence
from service.revocations import publisher as module
from service.revocations.entries import ClientVoided, FamilyEnded, Progress, abridged_digest
from service.revocations.journal import Journal
from service.revocations.stream import STREAM, ensure, read_info
from tests.broker import Broker
from tests.projections.logs import START, LogMaker, eventful_log
from tests.service.revocations.feeds import (
    PATIENCE_SECONDS,
    TOLERANCE,
    Heard,
    made,
    publishing,
    store,
    stored,
    until_processed,
)
from tests.service.tenants import configure_acme


def revoking(log: list[StoredMessage]) -> list[tuple[str, int]]:
    """Tenant and sequence of each commit that must be an entry."""
    return [
        (AggregateName.parse(one.subject).tenant, one.seq)
        for one in log
        if one.subject.endswith(".revoked") or b"ClientDisabled" in one.body
    ]


def thefts(count: int) -> list[StoredMessage]:
    """A log with so many families, of which each ends."""
    log = LogMaker()
    for number in range(count):
        log.open(f"f{number}")
        log.rotate(f"f{number}")
        log.reuse(f"f{number}")
    return log.log


async def test_the_log_is_published_in_order(connection: Connection) -> None:
    """One entry a commit, numbered as they are stored, heard in order by their tenant, each naming the one before."""
    await made(connection)
    heard = Heard()
    await heard.start(connection, "acme")
    log = eventful_log()
    await store(connection, log)
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(log))
        found = await stored(connection)
        assert [(tenant, entry.seq) for tenant, entry in found] == revoking(log)
        mine = [entry for tenant, entry in found if tenant == "acme"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not heard.heartbeats:
                await asyncio.sleep(0.01)
        bodies = [msgspec.json.decode(msgspec.json.encode(entry)) for entry in mine]
        assert heard.entries == [(entry.subject("acme"), body) for entry, body in zip(mine, bodies, strict=True)]
        assert [entry.prev for entry in mine] == [0, *(entry.n for entry in mine[:-1])]
        assert heard.heartbeats[0]["n"] == mine[-1].n
        assert heard.heartbeats[0]["feed"] == (await read_info(connection)).created


async def test_entries_are_kept_as_long_as_the_clients_tokens_live(connection: Connection) -> None:
    """By the longest lifetime that its client, or the tenant, ever had; also after a change that was just published."""
    await made(connection)
    jetstream = connection.jetstream()
    log = LogMaker()
    log.open("f0")
    log.rotate("f0")
    log.reuse("f0")
    longer = ClientConfigured(ClientSettings(access_token_ttl=900), longest_ttl=5000)
    state = evolve(None, longer)
    changed = codec.encode(Commit(1, "c", START, "operator", None, 0, (longer,), state))
    async with publishing(connection) as publisher:
        await store(connection, log.log)
        await until_processed(publisher, 3)
        await jetstream.publish("tokens.acme.client.web", changed)
        await jetstream.publish(log.log[-1].subject.replace("f0", "f1"), log.log[-1].body)
        await until_processed(publisher, 5)
        found = [entry for _, entry in await stored(connection) if isinstance(entry, FamilyEnded)]
        lives = [entry.until - TOLERANCE - int(entry.at) for entry in found]
        assert lives == [300, 5000]


async def test_publishers_killed_at_any_point(nats_server: Broker, connection: Connection) -> None:
    """Each is cancelled somewhere, and its connection closed; no entry is lost, doubled, or out of order."""
    await made(connection)
    log, chance = thefts(120), random.Random(7)
    appending = asyncio.create_task(store(connection, log))
    killed = 0
    while True:
        own = await connect(nats_server.url, "publisher")
        try:
            async with publishing(own) as publisher:
                await asyncio.sleep(chance.expovariate(1 / 0.02))
                if killed > 3 and appending.done() and publisher.processed >= len(log):
                    break
        finally:
            await own.close()
        killed += 1
    await appending
    assert [(tenant, entry.seq) for tenant, entry in await stored(connection)] == revoking(log)


async def test_two_side_by_side(nats_server: Broker, connection: Connection) -> None:
    """Each entry is stored once, in order."""
    await made(connection)
    log = thefts(100)
    own = [await connect(nats_server.url, f"publisher {number}") for number in range(2)]
    async with publishing(own[0]) as one, publishing(own[1]) as other:
        await store(connection, log)
        for publisher in (one, other):
            await until_processed(publisher, len(log))
        assert [(tenant, entry.seq) for tenant, entry in await stored(connection)] == revoking(log)
    for connected in own:
        await connected.close()


async def test_the_broker_is_killed(nats_server: Broker, connection: Connection) -> None:
    """The publisher goes on by itself when it is back."""
    await made(connection)
    log = thefts(40)
    own = await connect(nats_server.url, "publisher")
    async with publishing(own) as publisher:
        await store(connection, log[:60])
        nats_server.kill()
        nats_server.start()
        await store(connection, log[await _length(connection) :])
        await until_processed(publisher, len(log))
        assert [(tenant, entry.seq) for tenant, entry in await stored(connection)] == revoking(log)
    await own.close()


async def _length(connection: Connection) -> int:
    """The log's last sequence, once its broker answers again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(NatsError, JetStreamMissing):
                return await last_sequence(connection)
            await asyncio.sleep(0.05)


async def test_an_acknowledgement_is_lost(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored is not stored again, and is published all the same."""
    await made(connection)
    heard = Heard()
    await heard.start(connection, "acme")
    log = thefts(5)
    asked: list[str] = []
    request = connection.request

    async def losing(subject: str, *arguments: Any, **options: Any) -> Any:
        reply = await request(subject, *arguments, **options)
        if subject.startswith("feed."):
            asked.append(subject)
            if len(asked) == 3:
                raise NatsError
        return reply

    monkeypatch.setattr(connection, "request", losing)
    async with publishing(connection) as publisher:
        await until_processed(publisher, 0)
        await store(connection, log)
        await until_processed(publisher, len(log))
        assert [(tenant, entry.seq) for tenant, entry in await stored(connection)] == revoking(log)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while {entry["n"] for _, entry in heard.entries} != {1, 2, 3, 4, 5}:
                await asyncio.sleep(0.01)
    assert len(asked) >= 5


async def test_no_heartbeat_while_something_is_missing(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that is behind the log is silent, so that verifiers know that they are."""
    await made(connection)
    heard = Heard()
    await heard.start(connection, "acme")
    log = LogMaker()
    log.configure_client("web")
    log.open("f")
    log.rotate("f")
    log.reuse("f")
    asked, hold = asyncio.Event(), asyncio.Event()
    append = Journal.append

    async def held(self: Journal, found: Any) -> None:
        asked.set()
        await hold.wait()
        await append(self, found)

    monkeypatch.setattr(Journal, "append", held)
    async with publishing(connection) as publisher:
        await store(connection, log.log[:1])
        await until_processed(publisher, 1)
        await store(connection, log.log[1:])
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not asked.is_set():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # one that was decided on before
        heard.heartbeats.clear()
        await asyncio.sleep(2 * module.HEARTBEAT_SECONDS)
        assert [beat for beat in heard.heartbeats if beat["n"] == 0] == []
        hold.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not heard.heartbeats:
                await asyncio.sleep(0.01)
        assert heard.heartbeats[0]["n"] == 1


async def test_a_feed_made_anew(connection: Connection, log: Log) -> None:
    """Whoever removes the stream has it made again, under another name, from the log."""
    await made(connection)
    ended = thefts(5)
    await store(connection, ended)
    await configure_acme(log)
    heard = Heard()
    await heard.start(connection, "acme")
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(ended) + 1)
        before = (await read_info(connection)).created
        await connection.jetstream().delete_stream(STREAM)
        with pytest.raises(JetStreamMissing):
            await read_info(connection)
        await ensure(connection, 1, 3600)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(beat["feed"] != before for beat in heard.heartbeats):
                await asyncio.sleep(0.01)
        assert [(tenant, entry.seq) for tenant, entry in await stored(connection)] == revoking(ended)
        assert next(beat for beat in heard.heartbeats if beat["feed"] != before)["n"] == 5


async def test_a_clock_that_was_set_back_hides_no_entry(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commits in the middle are stamped a day early: a new feed has all of them, and those before."""
    log = thefts(10)
    await store(connection, log)

    async def early(connection: Connection, seq: int) -> StoredMessage | None:
        found = await message_at(connection, seq)
        assert found is not None and found.stored_at is not None
        return replace(found, stored_at=found.stored_at - timedelta(days=1)) if 15 <= seq <= 25 else found

    monkeypatch.setattr(module, "message_at", early)
    await made(connection, 3600)
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(log))
    assert [(tenant, entry.seq) for tenant, entry in await stored(connection)] == revoking(log)


async def test_what_is_too_old_is_no_entry_of_a_new_feed(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that begins on a long log begins with what somebody may still have to know."""
    monkeypatch.setattr(module, "SET_BACK_SECONDS", 0)
    log = thefts(8)
    await store(connection, log[:12])
    await asyncio.sleep(2.5)  # until the entries of these would be over
    await made(connection, 2)
    await store(connection, log[12:])
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(log))
        assert publisher.entries == 4


async def test_foreign_messages_are_passed(connection: Connection) -> None:
    """In the log, and in the feed, also as its last message."""
    await made(connection)
    jetstream = connection.jetstream()
    log = thefts(2)
    await store(connection, log[:3])
    async with publishing(connection) as publisher:
        await until_processed(publisher, 3)
    await jetstream.publish("tokens.acme.family.f9.revoked", b"junk")
    await jetstream.publish("feed.entries.acme", b"junk")
    await jetstream.publish("feed.progress", b"[[[")
    await store(connection, log[3:])
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(log) + 1)
        assert publisher.entries == 1
    assert (await read_info(connection)).state.last_seq == 4


async def test_progress_is_noted(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log without revocations is not read anew at each start."""
    monkeypatch.setattr(module, "PROGRESS_EVERY", 10)
    await made(connection)
    log = LogMaker()
    for number in range(25):
        log.open(f"f{number}")
    await store(connection, log.log)
    async with publishing(connection) as publisher:
        await until_processed(publisher, 25)
    journal = Journal(connection)
    await journal.catch_up()
    assert journal.seq == 25
    last = await connection.jetstream().get_last_msg(STREAM, "feed.progress")
    assert last.data is not None and msgspec.json.decode(last.data, type=Progress) == Progress(
        25, abridged_digest(log.log[-1].body)
    )


async def test_a_disabled_client_of_another_log_order(connection: Connection) -> None:
    """Disabled and enabled: two entries, in the log's order."""
    await made(connection)
    log = LogMaker()
    log.configure_client("web")
    log.disable_client("web", "lost")
    log.enable_client("web")
    await store(connection, log.log)
    async with publishing(connection) as publisher:
        await until_processed(publisher, 3)
    found = [entry for _, entry in await stored(connection)]
    assert [isinstance(entry, ClientVoided) and entry.void_until is None for entry in found] == [True, False]


async def test_a_revocation_is_published_at_once(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the next look at the log: the republished commit wakes the publisher."""
    monkeypatch.setattr(module, "POLL_SECONDS", 3600.0)
    assert REVOKED == "tokens.*.family.*.revoked"  # on a broker without our accounts, the log's own subject
    await made(connection)
    log = thefts(1)
    async with publishing(connection) as publisher:
        await until_processed(publisher, 0)
        await store(connection, log)
        await until_processed(publisher, 3)
        assert publisher.entries == 1
