"""What tests of every part share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker, broker


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[Broker]:
    """A real broker with JetStream, for this test alone."""
    with broker(tmp_path / "broker") as server:
        yield server
