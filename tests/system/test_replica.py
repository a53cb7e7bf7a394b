"""A replica in this process, on a broker of the test's own."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

from events import bus, stream
from heirloom.app import Disconnected, Settings, run_replica
from heirloom.report import Reporter
from service import keyring
from service.journal import Journal
from tests.broker import Broker


@pytest.mark.parametrize("which", ["heirloom log", "heirloom api", "heirloom admin"])
async def test_a_connection_that_is_ended_for_good_ends_the_replica(
    nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """As the broker does to whoever breaks its rules: somebody has to start it again, so it must not stay."""
    connected: dict[str, bus.Connection] = {}
    connect = bus.connect

    async def noted(url: str, name: str, **options: Any) -> bus.Connection:
        connected[name] = await connect(url, name, **options)
        return connected[name]

    monkeypatch.setattr(bus, "connect", noted)
    keyring.create(tmp_path / "keyring.json")
    settings = Settings(nats_server.url, tmp_path / "keyring.json", stream.Required(), None, try_doors=False)
    ready = asyncio.Event()
    serving = asyncio.create_task(run_replica(settings, Journal(io.BytesIO()), Reporter(), asyncio.Event(), ready))
    await asyncio.wait_for(ready.wait(), 10)
    await connected[which].close()
    with pytest.raises(Disconnected, match="for good"):
        await asyncio.wait_for(serving, 10)
    assert all(connection.is_closed for connection in connected.values())
