"""What tests of every part share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker, broker

TESTS = Path(__file__).parent
ON_SERVICES = ("faults", "system", "operations", "security")
"""Where tests take long, the longest first; of the last two each worker would need a service more."""


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[Broker]:
    """A real broker with JetStream, for this test alone."""
    with broker(tmp_path / "broker") as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every worker's part begins with tests on services; what idle workers take from its end needs none."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    on_services = [item for where in ON_SERVICES for item in items if _where(item) == where]
    others = [item for item in items if _where(item) not in ON_SERVICES]
    parts = ((tests, number) for number in range(workers) for tests in (on_services, others))
    items[:] = [item for tests, number in parts for item in _part(tests, number, workers)]


def _where(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def _part(tests: list[pytest.Item], number: int, of: int) -> list[pytest.Item]:
    return tests[number * len(tests) // of : (number + 1) * len(tests) // of]
