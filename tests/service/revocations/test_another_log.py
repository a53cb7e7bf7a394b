"""The log is replaced, or loses its end, and the feed stays: it is made anew, and nobody hears that all is clear."""

import asyncio
import time

import pytest

from events.aggregates.aggregate_names import STREAM as LOG
from events.bus.connection import Connection
from events.log import stream as log_stream
from events.log.jetstream_api import JetStreamMissing
from events.log.stored_message import StoredMessage
from service.revocations.entries import FamilyEnded, Progress
from service.revocations.journal import Journal
from service.revocations.stream import read_info
from tests.projections.logs import LogMaker
from tests.service.revocations.feeds import PATIENCE_SECONDS, Heard, made, publishing, store, stored, until_processed


def thefts(*names: str) -> list[StoredMessage]:
    """A log with a client, and these families, of which each ends."""
    log = LogMaker()
    log.configure_client("web")
    for name in names:
        log.open(name)
        log.rotate(name)
        log.reuse(name)
    return log.log


async def replace(connection: Connection, log: list[StoredMessage]) -> None:
    """Put that log in the place of the present one."""
    await connection.jetstream().delete_stream(LOG)
    await log_stream.ensure(connection, log_stream.Required())
    await store(connection, log)


async def until_removed(connection: Connection) -> None:
    """Wait until there is no feed."""
    with pytest.raises(JetStreamMissing):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                await read_info(connection)
                await asyncio.sleep(0.05)


async def ended(connection: Connection) -> list[str]:
    """The families of which the feed says so."""
    return [entry.family_id for _, entry in await stored(connection) if isinstance(entry, FamilyEnded)]


OLD = thefts(*(f"a{number}" for number in range(12)))
NAMES = ("a0", "a1", "b2", "b3")
NEW = thefts(*NAMES)


@pytest.mark.parametrize("grown", [False, True])
async def test_while_the_publisher_runs(connection: Connection, grown: bool) -> None:
    """The feed is removed, and there is no heartbeat before another one has all of the log that is there now."""
    await made(connection)
    heard = Heard()
    await heard.start(connection, "acme")
    await store(connection, OLD)
    names = (*NAMES, *(f"c{number}" for number in range(20))) if grown else NAMES
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(OLD))
        before = (await read_info(connection)).created
        await replace(connection, thefts(*names))
        replaced = time.time()
        await until_removed(connection)
        await connection.flush()
        assert [beat for beat in heard.heartbeats if beat["at"] > replaced] == []
        heard.heartbeats.clear()
        await made(connection)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not heard.heartbeats:
                await asyncio.sleep(0.01)
        assert heard.heartbeats[0]["feed"] != before and heard.heartbeats[0]["n"] == len(names)
        assert await ended(connection) == list(names)


@pytest.mark.parametrize("names", [NAMES, (*NAMES, *(f"c{number}" for number in range(20)))])
async def test_while_there_is_no_publisher(connection: Connection, names: tuple[str, ...]) -> None:
    """By the commit that the feed names last, however long the log is by now."""
    await made(connection)
    await store(connection, OLD)
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(OLD))
    await replace(connection, thefts(*names))
    async with publishing(connection) as publisher:
        await until_removed(connection)
        await made(connection)
        await until_processed(publisher, 3 * len(names) + 1)
        assert await ended(connection) == list(names)


async def test_a_feed_that_has_nothing_of_the_lost_end_is_kept(connection: Connection) -> None:
    """The publisher had read further, but without an entry: it goes on after the last one that both logs have."""
    await made(connection)
    common = thefts("a0", "a1")
    longer = LogMaker()
    for number in range(5):
        longer.open(f"lost{number}")
    await store(connection, common + longer.log)
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(common) + 5)
    before = (await read_info(connection)).created
    await replace(connection, NEW)
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(NEW))
        assert await ended(connection) == list(NAMES)
        assert (await read_info(connection)).created == before


async def test_a_feed_of_an_earlier_version_is_gone_on_with(connection: Connection) -> None:
    """Its entries name no digest."""
    await made(connection)
    await store(connection, NEW)
    journal = Journal(connection)
    await journal.catch_up()
    await journal.note(Progress(7))
    async with publishing(connection) as publisher:
        await until_processed(publisher, len(NEW))
        assert await ended(connection) == ["b2", "b3"]
