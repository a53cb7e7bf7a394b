"""Batches staged in memory: the broker goes on whatever becomes of them, and nobody's directory is taken for ours."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError

from events.aggregates.subjects import Aggregate, family
from events.bus.connection import Connection
from events.log.consumer_reader import read
from events.log.log import Log, Unavailable
from heirloom.broker.batch_staging import MEMORY, PREFIX, Staging, staged_at
from tests.broker import Broker
from tests.system.service import PATIENCE_SECONDS, Service

pytestmark = pytest.mark.skipif(not MEMORY.is_dir(), reason=f"batches are staged in memory only where {MEMORY} is")


@pytest.fixture
def batches(nats_server: Broker, tmp_path: Path) -> Path:
    """Where this test's broker stages batches."""
    return tmp_path / "broker" / "data" / "jetstream" / "$G" / "streams" / "TOKENS" / "batches"


@pytest.fixture
async def log(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Log:
    """An empty log to which everything that waits is appended together."""
    log = Log(connection)
    await log.start()
    monkeypatch.setattr(log.appender._batch_choice, "together", True)
    monkeypatch.setattr("events.log.batch_choice.BatchChoice.acknowledged", lambda *_: None)
    return log


@contextlib.contextmanager
def staging_at(batches: Path) -> Iterator[Staging]:
    """Nothing of it is left, however the test ends."""
    staging = Staging(batches)
    try:
        yield staging
    finally:
        staging.remove()
    assert not batches.is_symlink()


async def append_batch(log: Log, name: str) -> list[int]:
    """Twenty commits that go together; repeated while the broker is away."""

    async def append(aggregate: Aggregate) -> int:
        async with asyncio.timeout(30):
            while True:
                try:
                    return await log.append(aggregate.live, aggregate.filter, aggregate.live.encode(), 0)
                except Unavailable:
                    await asyncio.sleep(0.05)

    return await asyncio.gather(*(append(family("acme", f"{name}{number}")) for number in range(20)))


async def begin_batch(connection: Connection) -> None:
    """The first message of a batch whose others never come."""
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
    """The link stays: a machine that loses its power has no time to take it away."""
    staging.remove()
    batches.symlink_to(memory)


async def test_what_was_staged_may_be_lost(
    nats_server: Broker, connection: Connection, log: Log, batches: Path
) -> None:
    """The power fails while a batch is staged: what was acknowledged is there, and the next batches go on."""
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
    found = [commit.seq async for batch in read(connection, until=60) for commit in batch.commits]
    assert sorted(stored) == found == list(range(1, 61))


async def test_the_service_sees_to_it(alone: Service) -> None:
    """`heirloom up` links, and again after its broker has restarted; `running` checks that it leaves nothing."""
    batches = staged_at(alone.data / "jetstream")

    async def until_linked(but_not_to: Path | None = None) -> Path:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_linked(batches) or target(batches) == but_not_to:
                await asyncio.sleep(0.05)
        return target(batches)

    before = await until_linked()
    alone.kill_child("nats-server")
    assert (await until_linked(but_not_to=before)).parent == MEMORY
    assert not holds_something(before), "what was staged before is still there"
    async with alone.client() as web, asyncio.timeout(PATIENCE_SECONDS):
        answer: dict[str, Any] | None = None
        while answer is None or "error" in answer:  # until everybody has found the broker again
            with contextlib.suppress(NatsError):
                await web.come_back()
                answer = await web.ask("issue", {"sub": "alice", "scope": "read"}, seconds=2)
            await asyncio.sleep(0.05)


async def test_not_while_a_batch_is_staged_elsewhere(connection: Connection, batches: Path) -> None:
    """The directory that the broker made is left alone as long as something is in it."""
    await begin_batch(connection)
    with staging_at(batches) as staging:
        await until_there_is_something_in(batches)
        assert not staging.ensure()


def test_there_is_no_log_yet(tmp_path: Path) -> None:
    """Nothing is made for it."""
    with staging_at(tmp_path / "TOKENS" / "batches") as staging:
        assert not staging.ensure()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_services_directory_is_taken_over(tmp_path: Path) -> None:
    """It is the next one's, which leaves nothing."""
    batches = tmp_path / "batches"
    assert Staging(batches).ensure()
    left = batches.readlink()
    (left / "staged").mkdir()
    with staging_at(batches) as staging:
        assert staging.ensure()
        assert batches.readlink() == left
    assert not left.exists()


def test_a_directory_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    """As some systems do when their user logs out."""
    batches = tmp_path / "batches"
    with staging_at(batches) as staging:
        assert staging.ensure()
        batches.readlink().rmdir()
        assert staging.ensure()
        assert batches.is_dir()


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_directory_that_others_may_have_made_is_not_used(tmp_path: Path, mode: int) -> None:
    """Its name was known from an old link, and memory is everybody's. It is left as it is."""
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
