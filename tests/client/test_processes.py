"""Many processes on one store: nobody is logged out, whatever answers are lost and whoever is killed."""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nats
import pytest

from heirloom_client import Client, FileStore, InvalidGrant, KvStore, MemoryStore, Store, StoreError, TokenSource
from tests.broker import Broker
from tests.client.refreshing import KEY
from tests.paused import has_stopped
from tests.system.workspace import Workspace

ROOT = Path(__file__).parents[2]
ROTATIONS = 8
PATIENCE_SECONDS = 120.0


@contextmanager
def _running(program: str, url: str, tenant: str, place: str, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    with output.open("wb") as file:
        command = [sys.executable, "-m", f"tests.client.{program}", url, tenant, place]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "client")}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _live_together(workspace: Workspace, place: str, count: int, outputs: Path) -> None:
    """Until the family has rotated often enough. Every now and then one is killed, and another takes its place."""
    url, numbers = await workspace.service.url("app", workspace.name), itertools.count()
    with ExitStack() as stack:

        def start() -> subprocess.Popen[bytes]:
            said = outputs / f"said-{next(numbers)}"
            return stack.enter_context(_running("refreshing", url, workspace.name, place, said))

        running = [start() for _ in range(count)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await _rotations(workspace) < ROTATIONS:
                await asyncio.sleep(random.uniform(1, 4))
                assert [process.poll() for process in running] == [None] * count, _said(outputs)
                victim = random.randrange(count)
                running[victim].send_signal(signal.SIGKILL)
                running[victim] = start()


async def _rotations(workspace: Workspace) -> int:
    """Of the tenant's one family, which lives."""
    families = (await workspace.audit("families", min_seq=await workspace.sequence()))["items"]
    assert [family["status"] for family in families] == ["live"]
    return (await workspace.timeline(families[0]["family_id"])).count("TokenRotated")


def _said(outputs: Path) -> str:
    texts = (output.read_text() for output in outputs.glob("said-*"))
    return "\n".join(text[-2000:] for text in texts if "Error" in text)


async def test_processes_share_files(workspace: Workspace, oauth: Client, tmp_path: Path) -> None:
    """Some on one machine."""
    await workspace.register("app", access_token_ttl=3)
    source = oauth.source(await oauth.issue("alice", "read offline_access"), store=FileStore(tmp_path / "token"))
    await source.token()
    await _live_together(workspace, str(tmp_path / "token"), 4, tmp_path)
    assert await oauth.introspect((await source.token()).access_token)


async def test_processes_share_a_bucket(
    workspace: Workspace, oauth: Client, nats_server: Broker, tmp_path: Path
) -> None:
    """Some, as if each were on a host of its own."""
    await workspace.register("app", access_token_ttl=3)
    connection = await nats.connect(nats_server.url)
    await connection.jetstream().create_key_value(bucket="tokens")
    store: Store = KvStore(connection.jetstream(), "tokens", key=KEY)
    source = oauth.source(await oauth.issue("alice", "read offline_access"), store=store)
    await source.token()
    await _live_together(workspace, nats_server.url, 4, tmp_path)
    assert await oauth.introspect((await source.token()).access_token)
    await connection.close()


async def test_a_process_that_was_stopped_for_two_refreshes(
    workspace: Workspace, oauth: Client, tmp_path: Path
) -> None:
    """CONTRACT §3.8: what it sends harms nobody, and it takes what the store has by then; a thief is still found."""
    url, place, said = await workspace.service.url("app", workspace.name), tmp_path / "token", tmp_path / "said"
    first = await oauth.issue("alice", "read offline_access")
    source = oauth.source(first, store=FileStore(place))
    await source.token()
    with _running("stopping", url, workspace.name, str(place), said) as process:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not has_stopped(process.pid):
                assert process.poll() is None, said.read_text()
                await asyncio.sleep(0.05)
            for _ in range(2):
                source.rejected(await source.token())
                await source.token()
            process.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(process.wait) == 0, said.read_text()
    assert said.read_text() == "another token\n"
    (late,) = (await workspace.audit("incidents", min_seq=await workspace.sequence()))["items"]
    assert (late["reason"], late["generation"], late["current_generation"]) == ("late_duplicate", 0, 2)
    source.rejected(await source.token())
    assert await oauth.introspect((await source.token()).access_token)
    assert await workspace.reasons() == []
    with pytest.raises(InvalidGrant):
        await oauth.refresh(str(first.refresh_token))
    assert await workspace.reasons() == ["reuse_detected"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # so does a pre-forking server
async def test_after_a_fork(oauth: Client, tmp_path: Path) -> None:
    """The child has connections and refreshes of its own; a store in memory is the parent's alone."""
    source = oauth.source(await oauth.issue("alice", "read offline_access"), store=FileStore(tmp_path / "token"))
    first = await source.token()
    source.rejected(first)
    alone = oauth.source(await oauth.issue("bob", "read offline_access"), store=MemoryStore())
    alone.rejected(await alone.token())
    child = os.fork()
    if child == 0:
        os._exit(_in_child(source, alone))
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    second = await source.token()
    assert second.access_token != first.access_token
    assert await oauth.introspect(second.access_token)
    assert await alone.token()


def _in_child(source: TokenSource, alone: TokenSource) -> int:
    async def work() -> None:
        before = next(iter(source._shared.rejected))
        assert (await source.token()).access_token != before
        with pytest.raises(StoreError, match="forked"):
            await alone.token()

    try:
        asyncio.events._set_running_loop(None)
        asyncio.run(work())
    except BaseException as error:
        print("in the child:", repr(error), file=sys.stderr)
        return 1
    return 0
