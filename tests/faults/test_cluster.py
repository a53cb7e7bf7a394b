"""`heirloom up --cluster 3`: three copies of everything, and two brokers that hang. Kills are in the short run."""

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
"""A caller is told within two seconds that the log is away; twice that on a busy machine."""
AT_ONCE = 1500
"""More requests than are worked on at once."""


@contextlib.contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Ended whatever happens."""
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


async def test_three_copies_of_everything_and_all_is_there_again(tmp_path: Path) -> None:
    """Every stream; clients are told of every broker, strangers are not let in, and the next start finds it all."""
    with running(Stack(tmp_path / "data", cluster=3)) as stack:
        async with stack.undisturbed() as witness, stack.client() as web:
            streams = await witness.jetstream().streams_info()
            assert {stream.config.num_replicas for stream in streams} == {3}
            assert {stream.config.compression for stream in streams} == {StoreCompression.NONE}  # ADR 0012
            await _compress(witness)  # as versions before did
            names = {stream.config.name for stream in streams}
            assert names >= {"TOKENS", "CHECKPOINTS", "REPLICAS", "KV_heirloom-assertions"}
            token = (await web.issue(scope="read offline_access"))["refresh_token"]
        told = subprocess.run(
            [str(HEIRLOOM), "url", "--role", "operator", "--data", str(stack.data)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert re.sub(".*@", "", told.strip()) == stack.hosts[0], "one URL, as every NATS client takes it"
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


async def test_without_a_quorum_callers_are_told_so(tmp_path: Path) -> None:
    """Two of three brokers hang: everything asked is refused in time, nothing piles up, and then all is as before."""
    stack = Stack(tmp_path / "data", cluster=3)
    alive, *others = stack.hosts
    for replica in ("replica 1", "replica 2"):  # that the one that lives can be asked
        stack.setup.links[replica] = dict.fromkeys(others, alive)
    with running(stack):
        hung = [stack.broker(node) for node in stack.nodes[1:]]
        async with _web_at(stack, alive) as web:
            token = (await web.issue(scope="read offline_access"))["refresh_token"]
            with paused(*hung):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while await _outcome(web, "introspect", {"token": token}) != "temporarily_unavailable":
                        await asyncio.sleep(0.05)  # it may still be led by the one that lives, until that one notices
                async with asyncio.timeout(TOLD_SECONDS):
                    for what, request in (("introspect", {"token": token}), ("issue", {"sub": "u", "scope": "read"})):
                        assert await _outcome(web, what, request) == "temporarily_unavailable"
                crowd = await asyncio.gather(*(_outcome(web, "revoke", {"token": token}) for _ in range(AT_ONCE)))
                assert set(crowd) == {"temporarily_unavailable"}
            token = await _refreshed(web, token, "k", or_ended=True)


@contextlib.asynccontextmanager
async def _web_at(stack: Stack, host: str) -> AsyncIterator[Caller]:
    """A client that knows this broker alone."""
    url = credentials.load(stack.data).client_url("acme", "web", host)
    connection = await connect(url, "web", inbox_prefix="_INBOX.acme.web")
    try:
        yield Caller(connection, "oauth.acme.client.web")
    finally:
        await connection.close()


async def _refreshed(caller: Caller, token: str, key: str, *, or_ended: bool = False) -> str:
    """The successor, as soon as there is one. `or_ended`: a revocation nobody heard of may have come first."""
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
    """Whether the port where the brokers talk to each other ends a conversation with who does not prove himself."""
    configuration = (stack.data / stack.nodes[0] / "nats.conf").read_text()
    found = re.search(r'cluster \{[^}]*?listen: "([\d.]+):(\d+)"', configuration, re.DOTALL)
    assert found is not None
    reader, writer = await asyncio.open_connection(found[1], int(found[2]))
    writer.write(b'CONNECT {"verbose":false,"name":"stranger","cluster":"heirloom","user":"route","pass":"guess"}\r\n')
    async with asyncio.timeout(PATIENCE_SECONDS):
        said = await reader.read()  # to the end: the other side hangs up
    writer.close()
    return b"Authorization Violation" in said
