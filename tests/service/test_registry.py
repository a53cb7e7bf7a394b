"""What a replica holds in memory follows the log, and nobody decides on a memory that has stopped following."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events import bus, stream, subjects
from events import client as client_events
from events import key as key_events
from events.log import Log
from service import keyring
from service.aggregates import change
from service.keyring import KeyringError
from service.registry import Registry
from tests.broker import Broker


class World:
    """A replica's registry over an empty log, and the file its keyring came from."""

    def __init__(self, connection: bus.Connection, log: Log, file: Path) -> None:
        self.connection, self.log, self.file = connection, log, file
        self.registry = Registry(log, keyring.create(file))

    async def follow(self) -> BaseException:
        """Follow the log until something ends that; what it was."""
        failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        following = asyncio.create_task(self.registry.follow(self.connection, failure.set_result))
        async with asyncio.timeout(10):
            await following
            return await failure


@pytest.fixture
async def world(nats_server: Broker, tmp_path: Path) -> AsyncIterator[World]:
    """On a broker of its own."""
    connection = await bus.connect(nats_server.url, "test")
    await stream.ensure(connection, stream.Required())
    log = Log(connection)
    await log.start()
    yield World(connection, log, tmp_path / "keyring.json")
    await connection.close()


async def test_a_keyring_that_cannot_be_read_is_told(world: World) -> None:
    """A key of a newer secret has come, and the file that holds it was copied here with the wrong mode."""
    newer = keyring.add(world.file)
    world.file.chmod(0o644)
    events = key_events.KeyPublished("HS256", newer, 0, {}), key_events.KeyActivated()
    aggregate = subjects.key("acme", f"mac-{newer}")
    await change(world.log, aggregate, key_events.codec, key_events.evolve, lambda _: events, "operator")
    failure = await world.follow()
    assert isinstance(failure, KeyringError) and "chmod 600" in str(failure)
    assert not world.registry.ready.is_set()


async def test_what_nobody_foresaw_is_told_too(world: World) -> None:
    """Whatever it is that fails, the replica would never hear of a commit again."""
    unforeseen = RuntimeError("unforeseen")

    def fail(_tenant: str, _client_id: str) -> None:
        raise unforeseen

    world.registry.when_disabled = fail
    aggregate, disabled = subjects.client("acme", "web"), (client_events.ClientDisabled(),)
    await change(world.log, aggregate, client_events.codec, client_events.evolve, lambda _: disabled, "operator")
    assert await world.follow() is unforeseen
