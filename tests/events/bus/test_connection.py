"""What the connection to NATS adds to that of nats-py."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.transport import TcpTransport

from events.bus.broker_version import LOWEST, BrokerTooOld, is_enough
from events.bus.connect import connect
from heirloom.process.event_loop import run
from tests.broker import Broker

TIMEOUT_SECONDS = 20


@pytest.mark.parametrize("found", [True, False])
async def test_closing_ends_the_search_for_a_broker(
    nats_server: Broker, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    """Also if it is cancelled just as a broker answers or refuses, and asyncio reports only the latter."""
    connection = await connect(nats_server.url, "test")
    trying, forgets = asyncio.Event(), iter([True])
    tcp_connect = TcpTransport.connect

    async def answered_as_it_is_cancelled(*arguments: Any, **options: Any) -> None:
        trying.set()
        try:
            await asyncio.sleep(2 * TIMEOUT_SECONDS)
        except asyncio.CancelledError:
            if not next(forgets, False):
                raise
            if not found:
                raise ConnectionRefusedError from None
            await tcp_connect(*arguments, **options)

    monkeypatch.setattr(TcpTransport, "connect", answered_as_it_is_cancelled)
    nats_server.kill()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await trying.wait()
        nats_server.start()
        await connection.close()
    assert connection.is_closed
    assert [task for task in asyncio.all_tasks() if "Client." in str(task.get_coro())] == []


@pytest.mark.parametrize("noticed", [True, False])
def test_unsent_data_does_not_prevent_closing(nats_server: Broker, noticed: bool) -> None:
    """On the event loop of the service's processes, which refuses to write to a lost connection."""

    async def main() -> None:
        changes: list[str] = []
        lost = asyncio.Event()

        async def changed(what: str) -> None:
            changes.append(what)
            lost.set()

        connection = await connect(nats_server.url, "test", on_change=changed)
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


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("2.15.1", True),
        ("v2.15.1", True),
        ("2.15.2-RC.1", True),
        ("2.100.0", True),
        ("3.0.0", True),
        ("2.14.3", False),
        ("2.9.99", False),
        ("1.99.99", False),
        ("", False),
        ("2.15", False),
        ("latest", False),
    ],
)
def test_versions_are_compared_as_numbers(version: str, enough: bool) -> None:
    """A text that is no version is not a new one."""
    assert is_enough(version) == enough


@asynccontextmanager
async def _reporting(version: str, broker: Broker) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A relay to the broker that reports this version; yields its address and all that it received."""
    sent: list[bytes] = []
    relays: set[asyncio.Task[None] | None] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.add(asyncio.current_task())
        upstream, downstream = await asyncio.open_connection("127.0.0.1", int(broker.url.rsplit(":", 1)[-1]))
        line = await upstream.readline()
        own = b'"version":"' + ".".join(map(str, LOWEST)).encode()
        assert own in line
        writer.write(line.replace(own, b'"version":"' + version.encode()))

        async def forward() -> None:
            while data := await reader.read(4096):
                sent.append(data)
                downstream.write(data)
            downstream.close()  # so the broker's side ends too

        sending = asyncio.create_task(forward())
        try:
            while data := await upstream.read(4096):
                writer.write(data)
        finally:
            sending.cancel()
            downstream.close()
            writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", sent
    finally:
        server.close()
        await asyncio.gather(*(relay for relay in relays if relay is not None))


@pytest.mark.parametrize("patient", [True, False])
async def test_a_broker_too_old_is_refused(nats_server: Broker, patient: bool) -> None:
    """nats-server#8376: the refusal names its version, and comes before any password is sent."""
    async with _reporting("2.14.3", nats_server) as (address, sent):
        with pytest.raises(BrokerTooOld, match=rf"at {address} is nats-server 2.14.3, and this service needs 2\.15\.1"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await connect(f"nats://user:secret@{address}", "test", patient=patient)
    assert sent == []


@pytest.mark.parametrize("patient", [True, False])
async def test_a_broker_too_old_is_left_for_another_at_the_start(
    nats_server: Broker, patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACT §6: wherever it is in the list; only if no server suffices, the start is refused."""
    monkeypatch.setattr("nats.aio.client.shuffle", lambda _pool: None)
    async with _reporting("2.14.3", nats_server) as (old, sent), _reporting("2.9.0", nats_server) as (older, _):
        good = nats_server.url.removeprefix("nats://")
        for servers in ((old, good), (good, old), (old, older, good)):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                connection = await connect(",".join(f"nats://x:y@{one}" for one in servers), "test", patient=patient)
            assert connection.connected_url is not None
            assert connection.connected_url.netloc.endswith(good)
            await connection.close()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with pytest.raises(BrokerTooOld):
                await connect(f"nats://{old},nats://{older}", "test", patient=patient)
    assert sent == []


async def test_an_old_version_is_reported_before_an_unreachable_server(nats_server: Broker) -> None:
    async with _reporting("2.14.3", nats_server) as (address, _sent):
        for servers in (f"nats://{address},nats://127.0.0.1:1", f"nats://127.0.0.1:1,nats://{address}"):
            with pytest.raises(BrokerTooOld):
                await connect(servers, "test", patient=False)


async def test_a_broker_met_after_a_reconnect_is_refused_too(
    nats_server: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """A reconnect may lead to another server of the cluster; one too old is left, and logged once."""
    async with _reporting("2.14.3", nats_server) as (address, sent):
        connection = await connect(nats_server.url, "test")
        connection._server_pool.append(type(connection._server_pool[0])(connection._server_pool[0].uri._replace(
            netloc=address
        )))  # fmt: skip
        with caplog.at_level(logging.ERROR, "heirloom.bus"):
            nats_server.kill()
            nats_server.start()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while not connection.is_connected or not caplog.records:
                    if connection.is_connected:  # it met the good one first
                        nats_server.kill()
                        nats_server.start()
                    await asyncio.sleep(0.05)
        assert connection.connected_url is not None
        assert connection.connected_url.netloc == nats_server.url.removeprefix("nats://")
        await connection.close()
    assert len(caplog.records) == 1 and "nats-server 2.14.3" in caplog.text and address in caplog.text
    assert sent == []


async def test_a_flush_follows_what_was_sent_before(nats_server: Broker) -> None:
    """The broker knows a subscription once `flush` has returned."""
    async with _reporting("2.15.1", nats_server) as (where, received):
        connection = await connect(f"nats://{where}", "test")
        received.clear()
        await connection.subscribe("anything")
        await connection.flush()
        flushed = b"".join(received)
        await connection.close()
    assert flushed.startswith(b"SUB anything ")
