"""The projector process: it catches up, answers queries, survives failures, and stops without losing a request."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from nats.aio.client import Client
from nats.errors import NoRespondersError

from bench.machine import children
from events.bus.connect import connect
from events.log import stream
from events.log.stored_message import StoredMessage
from projections.read_model import ReadModel
from tests.broker import Broker
from tests.projections.logs import LogMaker, eventful_log
from tests.projections.test_read_model import dump

LOG = eventful_log()
PATIENCE_SECONDS = 20


class Running:
    """A projector process, and a connection for queries."""

    def __init__(self, process: asyncio.subprocess.Process, client: Client) -> None:
        self.process = process
        self.client = client

    async def ask(self, query: str, **parameters: Any) -> dict[str, Any]:
        """The reply to a query; fails after eight seconds."""
        reply = await self.client.request(f"audit.acme.{query}", msgspec.json.encode(parameters), timeout=8)
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        return answer


@asynccontextmanager
async def projector(broker: Broker, read_model: Path, *, said: Path | None = None) -> AsyncIterator[Running]:
    """A projector that is ready. Its standard error goes to the file `said`."""
    environment = os.environ | {"HEIRLOOM_NATS_URL": broker.url, "HEIRLOOM_READ_MODEL": str(read_model)}
    with (said or Path(os.devnull)).open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "heirloom.projector", env=environment, stdout=subprocess.PIPE, stderr=errors
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.stdout.readline() == b"ready\n"
        client = await connect(broker.url, "test")
        yield Running(process, client)
        await client.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def publish(broker: Broker, log: list[StoredMessage]) -> None:
    """Publish these commits to the broker's stream, unchanged."""
    connection = await connect(broker.url, "test")
    await stream.ensure(connection, stream.Required())
    for stored in log:
        acknowledged = await connection.jetstream().publish(stored.subject, stored.body)
        assert acknowledged.seq == stored.seq
    await connection.close()


async def test_it_follows_answers_and_stops_cleanly(nats_server: Broker, tmp_path: Path) -> None:
    """Live commits are found by queries; a killed projector resumes; SIGTERM loses no request."""
    path = tmp_path / "model"
    await publish(nats_server, LOG[:20])
    async with projector(nats_server, path) as running:
        assert await running.ask("position") == {"applied_seq": 20, "log_seq": 20, "lag": 0}
        await publish(nats_server, LOG[20:30])
        assert (await running.ask("position", min_seq=30))["applied_seq"] == 30
        # an undecodable header must not silence it
        await running.client._send_command(b"HPUB audit.acme.position 18 18\r\nNATS/1.0\r\nx: \xff\r\n\r\n\r\n")
        assert (await running.ask("families", limit=1))["items"]
        running.process.kill()
    await publish(nats_server, LOG[30:])
    async with projector(nats_server, path) as running:
        assert (await running.ask("position"))["applied_seq"] == len(LOG)
        asked = [asyncio.create_task(running.ask("families", limit=100)) for _ in range(200)]
        waiting = asyncio.create_task(running.ask("position", min_seq=1000))
        await running.client.flush()
        running.process.send_signal(signal.SIGTERM)
        assert all("items" in answer for answer in await asyncio.gather(*asked))
        assert (await waiting)["error"] == "temporarily_unavailable"
        assert await running.process.wait() == 0
    model = ReadModel(tmp_path / "fresh")
    model.apply(LOG)
    model.close()
    assert dump(path) == dump(tmp_path / "fresh")


async def test_it_survives_a_broker_that_comes_and_goes(nats_server: Broker, tmp_path: Path) -> None:
    """After a kill and restart of the broker, later commits are applied as usual."""
    await publish(nats_server, LOG[:20])
    async with projector(nats_server, tmp_path / "model") as running:
        nats_server.kill()
        nats_server.start()
        await publish(nats_server, LOG[20:])
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not running.client.is_connected:
                await asyncio.sleep(0.05)
            while not await _has_applied_all(running):
                await asyncio.sleep(0.05)


async def _has_applied_all(running: Running) -> bool:
    try:
        return (await running.ask("position", min_seq=len(LOG))).get("applied_seq") == len(LOG)
    except NoRespondersError:
        return False  # it is not connected again yet


async def test_it_stops_without_a_broker(nats_server: Broker, tmp_path: Path) -> None:
    """SIGTERM while disconnected: nothing that it cannot send holds it up."""
    said = tmp_path / "said"
    await publish(nats_server, LOG[:20])
    async with projector(nats_server, tmp_path / "model", said=said) as running:
        nats_server.kill()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while said.read_bytes().count(b'"connection disconnected"') < 2:
                await asyncio.sleep(0.02)
            running.process.send_signal(signal.SIGTERM)
            assert await running.process.wait() == 0
    assert b"Traceback" not in said.read_bytes()


async def test_a_killed_writer_is_restarted(nats_server: Broker, tmp_path: Path) -> None:
    """On the file as it left it, though the log has grown since the start: nothing is rebuilt."""
    said = tmp_path / "said"
    await publish(nats_server, LOG[:20])
    async with projector(nats_server, tmp_path / "model", said=said) as running:
        await publish(nats_server, LOG[20:30])
        assert (await running.ask("position", min_seq=30))["applied_seq"] == 30
        (writer,) = children(running.process.pid)
        os.kill(writer, signal.SIGKILL)
        await publish(nats_server, LOG[30:])
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await running.ask("position", min_seq=len(LOG))).get("applied_seq") != len(LOG):
                await asyncio.sleep(0.05)
    assert b"the writer ended" in said.read_bytes()
    assert b"built anew" not in said.read_bytes()


async def test_an_unusable_file_is_replaced(nats_server: Broker, tmp_path: Path) -> None:
    """Garbage, then a read model of another log: rebuilt, with a log line. A halt is named in the replies."""
    path, said = tmp_path / "model", tmp_path / "said"
    path.write_bytes(b"no database" * 1000)
    await publish(nats_server, LOG)
    async with projector(nats_server, path, said=said) as running:
        assert len((await running.ask("families"))["items"]) == 8
        running.process.terminate()
        await running.process.wait()
    assert b"built anew" in said.read_bytes()
    other = LogMaker()
    for number in range(len(LOG)):
        other.open(f"g{number}")
    path.unlink()
    model = ReadModel(path)
    model.apply(other.log)
    model.close()
    async with projector(nats_server, path, said=said) as running:
        assert len((await running.ask("families"))["items"]) == 8
        rotation = next(stored for stored in reversed(LOG) if b"TokenRotated" in stored.body)
        unknown = replace(rotation, seq=len(LOG) + 1, body=rotation.body.replace(b"TokenRotated", b"TokenBlessed"))
        await publish(nats_server, [unknown])
        answer = await running.ask("position", min_seq=unknown.seq)
        assert answer["error"] == "temporarily_unavailable"
        assert f"sequence {unknown.seq}" in answer["error_description"]
        assert len((await running.ask("families"))["items"]) == 8
        position = await running.ask("position")
        assert (position["lag"], "TokenBlessed" in position["obstacle"]) == (1, True)
        running.process.terminate()
        assert await running.process.wait() == 0
    assert b"another log" in said.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT seq FROM applied").fetchone() == (len(LOG),)
