"""Batches staged in memory: the broker goes on whatever happens to them, and no foreign directory is used."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError

from events.aggregates.aggregate_names import Aggregate, family
from events.bus.connection import Connection
from events.log.consumer_reader import read
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from heirloom.broker.batch_staging import MEMORY, PREFIX, Staging, staged_at
from tests.broker import Broker
from tests.system.service import PATIENCE_SECONDS, Service

pytestmark = pytest.mark.skipif(not MEMORY.is_dir(), reason=f"batches are staged in memory only where {MEMORY} is")


@pytest.fixture
def batches(nats_server: Broker, tmp_path: Path) -> Path:
    """The staging directory of this test's broker."""
    return tmp_path / "broker" / "data" / "jetstream" / "$G" / "streams" / "TOKENS" / "batches"


@pytest.fixture
async def log(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Log:
    """An empty log that appends all waiting commits in one batch."""
    log = Log(connection)
    await log.start()
    monkeypatch.setattr(log.appender._batch_choice, "together", True)
    monkeypatch.setattr("events.log.batch_choice.BatchChoice.acknowledged", lambda *_: None)
    return log


@contextlib.contextmanager
def staging_at(batches: Path) -> Iterator[Staging]:
    """Staging at that path; checks that nothing is left at the end."""
    staging = Staging(batches)
    try:
        yield staging
    finally:
        staging.remove()
    assert not batches.is_symlink()


async def append_batch(log: Log, name: str) -> list[int]:
    """Append twenty commits in one batch; retries while the broker is away."""

    async def append(aggregate: Aggregate) -> int:
        async with asyncio.timeout(30):
            while True:
                try:
                    return await log.append(aggregate.live, aggregate.filter, aggregate.live.encode(), 0)
                except Unavailable:
                    await asyncio.sleep(0.05)

    return await asyncio.gather(*(append(family("acme", f"{name}{number}")) for number in range(20)))


async def begin_batch(connection: Connection) -> None:
    """Publish the first message of a batch that is never completed."""
    aggregate = family("acme", "unfinished")
    headers = {"Nats-Batch-Id": "unfinished", "Nats-Batch-Sequence": "1"}
    async with asyncio.timeout(10):
        while True:
            try:
                return await connection.publish(aggregate.live, b"{}", headers=headers)
            except NatsError:
                await asyncio.sleep(0.05)


async def until_there_is_something_in(directory: Path) -> None:
    async with asyncio.timeout(10):
        while not holds_something(directory):
            await asyncio.sleep(0.01)


def holds_something(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


def is_linked(batches: Path) -> bool:
    return batches.is_symlink() and batches.is_dir()


def target(batches: Path) -> Path:
    return batches.readlink()


def lose_what_is_in(memory: Path, batches: Path, staging: Staging) -> None:
    """Empty the memory but keep the link, as after a power failure."""
    staging.remove()
    batches.symlink_to(memory)


async def test_a_staged_batch_may_be_lost(nats_server: Broker, connection: Connection, log: Log, batches: Path) -> None:
    """In a power failure during a batch: acknowledged commits are stored, and the next batches succeed."""
    with staging_at(batches) as staging:
        assert staging.ensure()
        memory = target(batches)
        stored = await append_batch(log, "before")
        await begin_batch(connection)
        await until_there_is_something_in(memory)
        nats_server.kill()
        lose_what_is_in(memory, batches, staging)
        nats_server.start()
        stored += await append_batch(log, "meanwhile")
        assert staging.ensure() and target(batches) != memory
        stored += await append_batch(log, "after")
    found = [commit.seq async for batch in read(connection, until=60) for commit in batch.messages]
    assert sorted(stored) == found == list(range(1, 61))


async def test_the_service_links_the_staging_directory(alone: Service) -> None:
    """`heirloom up` does so at its start and after a restart of its broker; `running` checks that nothing is left."""
    batches = staged_at(alone.data / "jetstream")

    async def until_linked(but_not_to: Path | None = None) -> Path:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_linked(batches) or target(batches) == but_not_to:
                await asyncio.sleep(0.05)
        return target(batches)

    before = await until_linked()
    alone.kill_child("nats-server")
    assert (await until_linked(but_not_to=before)).parent == MEMORY
    assert not holds_something(before), "the former staging directory is not empty"
    async with alone.client() as web, asyncio.timeout(PATIENCE_SECONDS):
        answer: dict[str, Any] | None = None
        while answer is None or "error" in answer:  # until all are connected again
            with contextlib.suppress(NatsError):
                await web.come_back()
                answer = await web.ask("issue", {"sub": "alice", "scope": "read"}, seconds=2)
            await asyncio.sleep(0.05)


async def test_a_directory_in_use_is_not_replaced(connection: Connection, batches: Path) -> None:
    """The broker's own directory stays as long as a batch is in it."""
    await begin_batch(connection)
    with staging_at(batches) as staging:
        await until_there_is_something_in(batches)
        assert not staging.ensure()


def test_without_a_log_nothing_is_linked(tmp_path: Path) -> None:
    with staging_at(tmp_path / "TOKENS" / "batches") as staging:
        assert not staging.ensure()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_services_directory_is_reused(tmp_path: Path) -> None:
    """The next service removes it at its end."""
    batches = tmp_path / "batches"
    assert Staging(batches).ensure()
    left = batches.readlink()
    (left / "staged").mkdir()
    with staging_at(batches) as staging:
        assert staging.ensure()
        assert batches.readlink() == left
    assert not left.exists()


def test_a_removed_directory_is_created_again(tmp_path: Path) -> None:
    """Some systems remove it when the user logs out."""
    batches = tmp_path / "batches"
    with staging_at(batches) as staging:
        assert staging.ensure()
        batches.readlink().rmdir()
        assert staging.ensure()
        assert batches.is_dir()


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_directory_that_others_may_have_made_is_not_used(tmp_path: Path, mode: int) -> None:
    """Its name is visible in an old link, and everybody may write to memory. It stays as it is."""
    batches = tmp_path / "batches"
    foreign = Path(tempfile.mkdtemp(prefix=PREFIX, dir=MEMORY))
    try:
        foreign.chmod(mode)
        batches.symlink_to(foreign)
        with staging_at(batches) as staging:
            assert staging.ensure()
            assert batches.readlink() != foreign
        assert foreign.exists()
    finally:
        foreign.rmdir()
