"""A broker that violates the protocol: commands fail with one clear line, processes try again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from click.testing import CliRunner

from events.bus.connect import connect
from events.task_cancellation import end
from heirloom.cli.main import main

INFO = b'INFO {"server_id":"x","server_name":"x","version":"2.15.1","max_payload":1048576,"headers":true}\r\n'
GREETINGS: dict[str, list[bytes]] = {
    "no INFO": [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
    "binary": [bytes(range(256)) * 20 + b"\r\n"],
    "an endless line": [b"INFO " + b"x" * 1_000_000],
    "no JSON": [b"INFO {nonsense\r\n"],
    "deep JSON": [b'INFO {"a":' + b"[" * 30_000 + b"\r\n"],
    "a list": [b"INFO [1]\r\n"],
    "wrong types": [b'INFO {"version":1,"max_payload":"x","connect_urls":5,"auth_required":[]}\r\n'],
    "a wrong address": [INFO.replace(b"}", b',"connect_urls":["[::1","a:b:c","x:99999999"]}'), b"PONG\r\n"],
    "an error": [INFO, b"-ERR 'go \xff away'\r\n"],
    "an error that is none": [INFO, b"-ERR\r\n"],
    "garbage for a PONG": [INFO, bytes(range(256)) + b"\r\n"],
    "silence": [],
}


@contextlib.asynccontextmanager
async def hostile(sent: list[bytes], visits: list[None] | None = None) -> AsyncIterator[str]:
    """Its URL. It sends one piece at once and one after each that it receives, then closes the connection."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if visits is not None:
            visits.append(None)
        with contextlib.suppress(OSError):
            for piece in sent:
                writer.write(piece)
                await writer.drain()
                await reader.read(1 << 16)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("sent", GREETINGS.values(), ids=GREETINGS)
async def test_a_command_fails_with_one_line(sent: list[bytes]) -> None:
    """No traceback, whatever the broker sends."""
    async with hostile(sent) as url:
        command = ["audit", "position", "--tenant", "acme", "--nats", url]
        ended = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("Error: ")


@pytest.mark.parametrize("sent", GREETINGS.values(), ids=GREETINGS)
async def test_a_process_tries_again(sent: list[bytes]) -> None:
    """A patient connection retries until there is a broker; no error ends it."""
    visits: list[None] = []
    async with hostile(sent, visits) as url:
        connecting = asyncio.create_task(connect(url, "test"))
        async with asyncio.timeout(30):
            while len(visits) < 3 and not connecting.done():
                await asyncio.sleep(0.01)
        if connecting.done():
            assert GREETINGS["garbage for a PONG"] == sent, connecting.exception()  # this one counts as connected
            await connecting.result().close()
        await end((connecting,))
