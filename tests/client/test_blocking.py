"""The client without an event loop: the same objects, from threads and after a fork."""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import heirloom_client
from heirloom_client import FileStore, TokenSource, blocking, device
from tests.client.test_client import CHALLENGE, VERIFIER
from tests.system.workspace import REDIRECT, Workspace

SCOPE = "read write offline_access"


async def _connected(workspace: Workspace, client_id: str = "app") -> blocking.Client:
    secret = await workspace.register(client_id, secret=True)
    url = f"nats://{workspace.service.host}"
    return blocking.Client.connect(url, tenant=workspace.name, client_id=client_id, secret=secret)


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (blocking.Client, heirloom_client.Client),
        (blocking.TokenSource, TokenSource),
        (blocking.Device, device.Device),
    ],
)
def test_every_method_is_there(own: type, other: type) -> None:
    """With the same parameters."""

    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, callable)
        return {name: list(inspect.signature(method).parameters) for name, method in found if name[0] != "_"}

    assert methods(own) == methods(other)


async def test_every_endpoint(workspace: Workspace) -> None:
    """In a thread without an event loop."""
    oauth, login = await _connected(workspace), await _connected(workspace, "login")
    orders = await _connected(workspace, "orders")

    def work() -> None:
        with oauth, login, orders:
            first = oauth.issue("alice", SCOPE, acr="gold")
            second = oauth.refresh(str(first.refresh_token), scope="read", idempotency_key="once")
            assert oauth.introspect(second.access_token).claims["acr"] == "gold"
            assert orders.exchange(second.access_token).scope == "read"
            oauth.revoke(str(second.refresh_token))
            assert not oauth.introspect(second.access_token)
            with pytest.raises(heirloom_client.InvalidGrant):
                oauth.refresh(str(second.refresh_token))
            code = login.authorize("app", "alice", "read", CHALLENGE, REDIRECT)
            assert oauth.redeem(code.code, VERIFIER, REDIRECT).scope == "read"
            assert oauth.client_credentials("read").scope == "read"
            assert oauth.metadata()["issuer"] == workspace.issuer
            waiting = oauth.device("read")
            login.answer_device(waiting.user_code, "alice", approved=True)
            assert waiting.tokens().scope == "read"
            with pytest.raises(heirloom_client.InvalidGrant):
                login.answer_device(waiting.user_code, "alice", approved=True)
            assert "blocking" in f"{oauth!r}{waiting!r}"

    await asyncio.to_thread(work)


async def test_many_threads_refresh_once(workspace: Workspace) -> None:
    """And `changes` has each new token."""
    oauth = await _connected(workspace)

    def work() -> None:
        with oauth, ThreadPoolExecutor(20) as threads:
            source = oauth.source(oauth.issue("alice", SCOPE))
            changes = source.changes()
            first = source.token()
            source.rejected(first)
            tokens = list(threads.map(lambda _: source.token(), range(50)))
            assert len({token.access_token for token in tokens} - {first.access_token}) == 1
            seen = [next(changes), next(changes)]
            assert [each.access_token for each in seen] == [first.access_token, tokens[0].access_token]

    await asyncio.to_thread(work)


async def test_an_access_token_by_a_plain_function(workspace: Workspace) -> None:
    """It may use the blocking client itself."""
    oauth = await _connected(workspace)

    def work() -> None:
        url = f"nats://{workspace.service.host}"
        with blocking.Client.connect(
            url,
            tenant=workspace.name,
            client_id="app",
            access_token=lambda: oauth.issue("alice", "read").access_token,
        ) as person:
            assert person.introspect(oauth.issue("bob", "read").access_token)
        oauth.close()

    await asyncio.to_thread(work)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # so does a pre-forking server
async def test_after_a_fork(workspace: Workspace, tmp_path: Path) -> None:
    """A worker that was forked from a process that had used it already has an event loop of its own."""
    oauth = await _connected(workspace)

    def parent() -> Callable[[], None]:
        source = oauth.source(oauth.issue("alice", SCOPE), store=FileStore(tmp_path / "token"))
        first = source.token()

        def child() -> None:
            source.rejected(first)
            assert oauth.introspect(source.token().access_token)

        return child

    in_child = await asyncio.to_thread(parent)
    pid = os.fork()
    if pid == 0:
        try:
            in_child()
            os._exit(0)
        except BaseException as error:
            print("in the child:", repr(error), file=sys.stderr)
            os._exit(1)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    await asyncio.to_thread(in_child)
    await asyncio.to_thread(oauth.close)
