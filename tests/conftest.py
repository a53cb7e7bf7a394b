"""Fixtures and hooks for all tests."""

import gc
import itertools
import logging
import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.log import Log
from service import clock
from tests.broker import Broker, broker

hypothesis.settings.register_profile("heirloom", deadline=None)  # an example's time depends on the machine
hypothesis.settings.load_profile("heirloom")

TESTS = Path(__file__).parent
ON_SERVICES = ("system", "operations", "security", "client")


@pytest.fixture(autouse=True)
def process_state() -> Iterator[None]:
    """Reset what the code sets for its whole process after each test: umask, logging level, the broker's time."""
    logger = logging.getLogger("heirloom")
    level, ahead = logger.level, clock._broker_ahead_of_steady
    umask = os.umask(0o022)
    os.umask(umask)
    yield
    os.umask(umask)
    logger.setLevel(level)
    clock._broker_ahead_of_steady = ahead


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[Broker]:
    """A real broker with JetStream, for one test."""
    with broker(tmp_path / "broker") as server:
        yield server


@pytest.fixture
async def connection(nats_server: Broker) -> AsyncIterator[Connection]:
    """A connection to a broker with an empty log."""
    connection = await connect(nats_server.url, "test")
    await stream.ensure(connection, stream.Required())
    yield connection
    await connection.close()


@pytest.fixture
async def log(connection: Connection) -> Log:
    """The empty log, ready to be appended to."""
    log = Log(connection)
    await log.start()
    return log


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage collection: imports and collected tests stay, and scanning them took a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker begins with the faults, which take longest, the others with tests on services.

    An idle worker takes tests from the end of another's part, where no service has to be started again.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    by_part: dict[str, list[pytest.Item]] = {part: [] for part in ("faults", *ON_SERVICES)}
    others: list[pytest.Item] = []
    for item in items:
        by_part.get(item.path.relative_to(TESTS).parts[0], others).append(item)
    faults = by_part.pop("faults")
    on_services = list(itertools.chain(*by_part.values()))
    left = iter(others)
    begins = [faults, *(_part(on_services, number, workers - 1) for number in range(workers - 1))]
    ordered = []
    for number, begin in enumerate(begins):
        size = len(_part(items, number, workers))
        ordered += [*begin, *itertools.islice(left, max(size - len(begin), 0))]
    items[:] = [*ordered, *(on_services if workers == 1 else ()), *left]


def _part(tests: list[pytest.Item], number: int, of: int) -> list[pytest.Item]:
    return tests[number * len(tests) // of : (number + 1) * len(tests) // of]
