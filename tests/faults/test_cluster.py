"""`heirloom up --cluster 3`: three copies of every stream, and brokers that hang. Other tests kill them."""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError
from nats.js.api import StoreCompression

from events.bus.connect import connect
from events.bus.connection import Connection
from heirloom.broker import credentials
from tests.faults.harness.stack import Stack
from tests.paused import paused
from tests.system.service import HEIRLOOM, Caller

PATIENCE_SECONDS = 40
TOLD_SECONDS = 4
"""Callers are refused within two seconds when the log is away; on a busy machine within four."""
AT_ONCE = 1500
"""More requests than are handled at once."""


@contextlib.contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """The started stack, stopped at the end."""
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


async def test_three_copies_of_every_stream(tmp_path: Path) -> None:
    """Strangers cannot join, one broker alone is refused, and the next start finds all data."""
    with running(Stack(tmp_path / "data", cluster=3)) as stack:
        async with stack.undisturbed() as witness, stack.client() as web:
            streams = await witness.jetstream().streams_info()
            assert {stream.config.num_replicas for stream in streams} == {3}
            assert {stream.config.compression for stream in streams} == {StoreCompression.NONE}  # ADR 0012
            await _compress(witness)  # as earlier versions did
            names = {stream.config.name for stream in streams}
            assert names >= {"TOKENS", "CHECKPOINTS", "REPLICAS", "KV_heirloom-assertions"}
            token = (await web.issue(scope="read offline_access"))["refresh_token"]
        told = subprocess.run(
            [str(HEIRLOOM), "url", "--role", "operator", "--data", str(stack.data)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert re.sub(".*@", "", told.strip()) == stack.hosts[0], "one URL, which every NATS client accepts"
        assert await _refuses_strangers(stack)
        assert stack.stop() == 0
        alone = [str(HEIRLOOM), "up", "--data", str(stack.data), "--port", "0"]
        refused = subprocess.run(alone, capture_output=True, text=True, check=False)
        assert (refused.returncode, "--cluster 3" in refused.stderr) == (1, True)
        stack.start()
        async with stack.undisturbed() as witness, stack.client() as web:
            mended = await witness.jetstream().stream_info("TOKENS")
            assert mended.config.compression == StoreCompression.NONE
            assert await _refreshed(web, token, "again") != token


async def test_without_a_quorum_requests_are_refused(tmp_path: Path) -> None:
    """Two of three brokers hang: every request is refused in time, none pile up, and later all is as before."""
    stack = Stack(tmp_path / "data", cluster=3)
    alive, *others = stack.hosts
    for replica in ("replica 1", "replica 2"):  # so that both use the live broker
        stack.setup.links[replica] = dict.fromkeys(others, alive)
    with running(stack):
        hung = [stack.broker(node) for node in stack.nodes[1:]]
        async with _web_at(stack, alive) as web:
            token = (await web.issue(scope="read offline_access"))["refresh_token"]
            with paused(*hung):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while await _outcome(web, "introspect", {"token": token}) != "temporarily_unavailable":
                        await asyncio.sleep(0.05)  # the live broker may lead for a moment more
                async with asyncio.timeout(TOLD_SECONDS):
                    for what, request in (("introspect", {"token": token}), ("issue", {"sub": "u", "scope": "read"})):
                        assert await _outcome(web, what, request) == "temporarily_unavailable"
                crowd = await asyncio.gather(*(_outcome(web, "revoke", {"token": token}) for _ in range(AT_ONCE)))
                assert set(crowd) == {"temporarily_unavailable"}
            token = await _refreshed(web, token, "k", or_ended=True)


@contextlib.asynccontextmanager
async def _web_at(stack: Stack, host: str) -> AsyncIterator[Caller]:
    """A client that knows only this broker."""
    url = credentials.load(stack.data).client_url("acme", "web", host)
    connection = await connect(url, "web", inbox_prefix="_INBOX.acme.web")
    try:
        yield Caller(connection, "oauth.acme.client.web")
    finally:
        await connection.close()


async def _refreshed(caller: Caller, token: str, key: str, *, or_ended: bool = False) -> str:
    """The successor, as soon as there is one. `or_ended`: a revocation without a reply may have come first."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(NatsError):
                request = {"grant_type": "refresh_token", "refresh_token": token}
                answer = await caller.ask("token", request, key=key, seconds=1)
                if "error" not in answer:
                    return str(answer["refresh_token"])
                if or_ended and answer["error"] == "invalid_grant":
                    return token
                assert answer["error"] == "temporarily_unavailable", answer
            await asyncio.sleep(0.05)


async def _outcome(caller: Caller, what: str, request: dict[str, Any]) -> str:
    answer = await caller.ask(what, request)
    return str(answer.get("error", "ok"))


async def _compress(connection: Connection) -> None:
    jetstream = connection.jetstream()
    config = (await jetstream.stream_info("TOKENS")).config
    await jetstream.update_stream(config, compression=StoreCompression.S2)


async def _refuses_strangers(stack: Stack) -> bool:
    """Whether the port between the brokers closes a connection with wrong credentials."""
    configuration = (stack.data / stack.nodes[0] / "nats.conf").read_text()
    found = re.search(r'cluster \{[^}]*?listen: "([\d.]+):(\d+)"', configuration, re.DOTALL)
    assert found is not None
    reader, writer = await asyncio.open_connection(found[1], int(found[2]))
    writer.write(b'CONNECT {"verbose":false,"name":"stranger","cluster":"heirloom","user":"route","pass":"guess"}\r\n')
    async with asyncio.timeout(PATIENCE_SECONDS):
        said = await reader.read()  # until the other side closes
    writer.close()
    return b"Authorization Violation" in said
