"""The connection to NATS, where it is more than nats-py's."""

import asyncio
from typing import Any

import pytest
from nats.aio.transport import TcpTransport

from events import bus
from heirloom.process import run
from tests.broker import Broker

PATIENCE_SECONDS = 20


@pytest.mark.parametrize("found", [True, False])
async def test_closing_ends_the_search_for_a_broker(
    nats_server: Broker, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    """Also when it is cancelled in the moment in which a broker answers or refuses, and asyncio tells it only that."""
    connection = await bus.connect(nats_server.url, "test")
    trying, forgets = asyncio.Event(), iter([True])
    connect = TcpTransport.connect

    async def answered_as_it_is_cancelled(*arguments: Any, **options: Any) -> None:
        trying.set()
        try:
            await asyncio.sleep(2 * PATIENCE_SECONDS)
        except asyncio.CancelledError:
            if not next(forgets, False):
                raise
            if not found:
                raise ConnectionRefusedError from None
            await connect(*arguments, **options)

    monkeypatch.setattr(TcpTransport, "connect", answered_as_it_is_cancelled)
    nats_server.kill()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await trying.wait()
        nats_server.start()
        await connection.close()
    assert connection.is_closed
    assert [task for task in asyncio.all_tasks() if "Client." in str(task.get_coro())] == []


@pytest.mark.parametrize("noticed", [True, False])
def test_what_no_broker_can_be_told_keeps_nobody_from_closing(nats_server: Broker, noticed: bool) -> None:
    """On the loop of the service's processes, which refuses to write where a connection was."""

    async def main() -> None:
        changes: list[str] = []
        lost = asyncio.Event()

        async def changed(what: str) -> None:
            changes.append(what)
            lost.set()

        connection = await bus.connect(nats_server.url, "test", on_change=changed)
        if noticed:
            nats_server.kill()
            await lost.wait()
        else:
            assert isinstance(connection._transport, TcpTransport) and connection._transport._io_writer is not None
            connection._transport._io_writer.transport.abort()
        await connection.subscribe("anything")
        await connection.close()
        assert connection.is_closed
        assert changes[-1] == "closed"

    run(main())
