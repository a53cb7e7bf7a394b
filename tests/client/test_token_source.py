"""A source of access tokens, on a running service: when it refreshes, how often, and what becomes of lost answers."""

import asyncio
import logging
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heirloom_client import Client, FileStore, InvalidGrant, InvalidScope, MemoryStore, Store, StoreError, Tokens
from heirloom_client.link import ConnectionLost, Link
from heirloom_client.record import WHOLE, target
from heirloom_client.refresher import SETTLE_SECONDS
from heirloom_client.token_source import TokenSource
from tests.client.conftest import connected
from tests.system.workspace import Workspace

SCOPE = "read write offline_access"


class Requests:
    """Counts requests to the token endpoint, and loses the answers of those whose number is in `lost`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.lost: set[int] = set()
        asked = Link.request

        async def request(link: Link, subject: str, *parts: Any) -> Any:
            if not subject.endswith(".token"):
                return await asked(link, subject, *parts)
            self.count += 1
            number = self.count
            reply = await asked(link, subject, *parts)
            if number in self.lost:
                raise ConnectionLost("lost by the test")
            return reply

        monkeypatch.setattr(Link, "request", request)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """From here on."""
    return Requests(monkeypatch)


async def _source(oauth: Client, store: Store | None = None) -> TokenSource:
    return oauth.source(await oauth.issue("alice", SCOPE), store=store)


async def test_a_fresh_token_costs_nothing(oauth: Client, requests: Requests) -> None:
    """And one that a resource has rejected is never handed out again."""
    source = await _source(oauth)
    first = await source.token()
    assert await source.token() == first
    assert requests.count == 0
    source.rejected(first)
    second = await source.token()
    assert second.access_token != first.access_token
    source.rejected(first)
    assert await source.token() == second
    assert requests.count == 1


async def test_a_stale_token_is_handed_out_while_another_is_fetched(workspace: Workspace, requests: Requests) -> None:
    """From a fifth of its life, and ten seconds at least, before its end; at the end it is waited for."""
    async with await connected(workspace, "app", access_token_ttl=8) as oauth:
        source = await _source(oauth)
        first = await source.token()
        await asyncio.sleep(source._shared.held[WHOLE].stale - time.monotonic())
        assert await source.token() == first
        async with asyncio.timeout(10):
            while (second := await source.token()) == first:
                await asyncio.sleep(0.01)
        assert requests.count == 1
        await asyncio.sleep(source._shared.held[WHOLE].ends - time.monotonic())
        third = await source.token()
        assert third.access_token != second.access_token
        assert await oauth.introspect(third.access_token)
        assert requests.count == 2


async def test_five_hundred_tasks_refresh_once(oauth: Client, requests: Requests) -> None:
    """They wait for the same one, also when the first of them is cancelled."""
    source = await _source(oauth)
    source.rejected(await source.token())
    tasks = [asyncio.create_task(source.token()) for _ in range(500)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tokens = await asyncio.gather(*tasks[1:])
    assert len({token.access_token for token in tokens}) == 1
    assert requests.count == 1
    assert tasks[0].cancelled()


async def test_what_is_handed_out_has_no_refresh_token(oauth: Client) -> None:
    """A resource needs none; `changes` has it, for those who keep it themselves."""
    source = await _source(oauth)
    changes = source.changes()
    first = await source.token()
    source.rejected(first)
    second = await source.token()
    assert first.refresh_token is None
    seen = [await asyncio.wait_for(anext(changes), 5) for _ in range(2)]
    assert [each.access_token for each in seen] == [first.access_token, second.access_token]
    assert seen[1].refresh_token not in (None, seen[0].refresh_token)


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_lost_answers_end_no_family(oauth: Client, requests: Requests, tmp_path: Path, kind: str) -> None:
    """The store still has the token that was presented, and the same key gets the same successor."""
    source = await _source(oauth, MemoryStore() if kind == "memory" else FileStore(tmp_path / "token"))
    requests.lost = {1, 3, 4, 8}
    seen = [await source.token()]
    for _ in range(5):
        source.rejected(seen[-1])
        seen.append(await source.token())
    assert len({each.access_token for each in seen}) == 6
    assert await oauth.introspect(seen[-1].access_token)


async def test_several_targets_of_one_family(workspace: Workspace, oauth: Client, requests: Requests) -> None:
    """A key has one body, so the requests of several are agreed on by the store; lost answers change nothing."""
    resources = [workspace.issuer, "https://api.example"]
    source = oauth.source(await oauth.issue("alice", SCOPE, resource=resources))
    requests.lost = {2, 5, 6}
    wanted: list[dict[str, Any]] = [{}, {"scope": "read"}, {"scope": "write"}, {"resource": "https://api.example"}]
    for _ in range(3):
        tokens = await asyncio.gather(*(source.token(**each) for each in wanted))
        assert [each.scope for each in tokens][1:3] == ["read", "write"]
        assert len({each.access_token for each in tokens}) == len(wanted)
        for each in tokens:
            assert (await oauth.introspect(each.access_token)).active
            source.rejected(each)
    with pytest.raises(InvalidScope):
        await source.token(scope="profile")
    assert await source.token()
    assert await source.token(scope="read")


async def test_two_redemptions_do_not_follow_on_each_other_s_heels(oauth: Client, requests: Requests) -> None:
    """A copy of the first that comes after the second would look like a theft; a clock that runs behind delays once."""
    source = await _source(oauth)
    await source.token(scope="read")
    first = await source._store.read()
    await source.token(scope="write")
    stored = await source._store.read()
    assert first is not None and stored is not None
    assert stored.record.redeemed_at - first.record.redeemed_at >= SETTLE_SECONDS, "each is noted when it is answered"
    await source._store.swap(msgspec.structs.replace(stored.record, redeemed_at=time.time() + 60), stored.revision)
    await asyncio.wait_for(source.token(scope="read write"), 5)
    assert requests.count == 3


async def test_another_process_died_before_it_stored_the_answer(
    workspace: Workspace, oauth: Client, requests: Requests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had presented the token for this or that, and another wants something else with it."""
    read, write = target("read", None), target("write", None)
    for number, (theirs, ours) in enumerate(((WHOLE, read), (read, WHOLE), (read, write), (WHOLE, WHOLE))):
        store = FileStore(tmp_path / str(number))
        source = await _source(oauth, store)
        await source.token()
        dying = oauth.source(store=FileStore(tmp_path / str(number)))._refresher
        with monkeypatch.context() as patch:
            patch.setattr(dying, "_write", _killed)
            with pytest.raises(Killed):
                await dying.refresh(theirs, lambda _: False)
        token = await source.token(scope=ours.scope)
        assert (await oauth.introspect(token.access_token)).active
        assert requests.count
    reasons = await workspace.reasons()
    assert reasons == []


class Killed(BaseException):
    """Nothing of a process that is killed runs on."""


async def _killed(*_: object) -> None:
    raise Killed


async def test_it_goes_on_after_a_restart(oauth: Client, tmp_path: Path) -> None:
    """Another process, or the same one later, has what the store holds; and the store may be shared."""
    source = await _source(oauth, FileStore(tmp_path / "token"))
    first = await source.token()
    later = oauth.source(store=FileStore(tmp_path / "token"))
    assert await later.token() == first
    later.rejected(first)
    second = await later.token()
    source.rejected(first)
    assert await source.token() == second


async def test_the_same_login_begins_one_family(oauth: Client, tmp_path: Path) -> None:
    """Workers that were forked with the first tokens do not put them back over newer ones; another login does."""
    first = await oauth.issue("alice", SCOPE)
    one, two = (oauth.source(first, store=FileStore(tmp_path / "token")) for _ in range(2))
    one.rejected(await one.token())
    assert (await one.token()) == (await two.token())
    login = await oauth.issue("bob", SCOPE)
    assert (await oauth.source(login, store=FileStore(tmp_path / "token")).token()).access_token == login.access_token


async def test_a_failure_in_the_background(
    workspace: Workspace, requests: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, the token is good until its end, and the next attempt waits a while."""
    async with await connected(workspace, "app", access_token_ttl=60) as oauth:
        first = await oauth.issue("alice", SCOPE)
        source = oauth.source(first)
        token = await source.token()
        await oauth.revoke(str(first.refresh_token))
        stored = await source._store.read()
        assert stored is not None
        await source._store.swap(msgspec.structs.replace(stored.record, access={}), stored.revision)
        source._shared.held[WHOLE] = source._shared.held[WHOLE]._replace(stale=0)
        for _ in range(50):
            assert await source.token() == token
            await asyncio.sleep(0.01)
        assert [record.getMessage() for record in caplog.records if record.name == "heirloom_client"] == [
            "an access token is not refreshed yet: invalid_grant"
        ]
        assert requests.count == 1


async def test_the_end_of_a_family(oauth: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`InvalidGrant`, after one more look at the store, which keeps what it has; no log line has a token."""
    caplog.set_level(logging.DEBUG)
    first = await oauth.issue("alice", SCOPE)
    source = oauth.source(first, store=FileStore(tmp_path / "token"))
    source.rejected(await source.token())
    await oauth.revoke(str(first.refresh_token))
    with pytest.raises(InvalidGrant):
        await source.token()
    assert (await FileStore(tmp_path / "token").read()) is not None
    assert str(first.refresh_token) not in caplog.text
    assert first.access_token not in caplog.text


async def test_a_thief_without_the_store_is_found(oauth: Client) -> None:
    """The key cannot be made of the token alone, so the copy is a reuse."""
    first = await oauth.issue("alice", SCOPE)
    source = oauth.source(first)
    source.rejected(await source.token())
    good = await source.token()
    with pytest.raises(InvalidGrant):
        await oauth.refresh(str(first.refresh_token))
    source.rejected(good)
    with pytest.raises(InvalidGrant):
        await source.token()


async def test_nothing_to_refresh_with(oauth: Client, tmp_path: Path) -> None:
    """An empty store, and tokens without a refresh token."""
    with pytest.raises(StoreError, match="log in"):
        await oauth.source(store=FileStore(tmp_path / "token")).token()
    with pytest.raises(ValueError, match="offline_access"):
        oauth.source(await oauth.issue("alice", "read"))


async def test_a_disk_that_is_full(oauth: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The access token is not handed out before its successor is stored; afterwards it goes on."""
    store = FileStore(tmp_path / "token")
    source = await _source(oauth, store)
    source.rejected(await source.token())

    def full(*_: object) -> bool:
        raise StoreError("full")

    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "_swap", full)
        with pytest.raises(StoreError):
            await source.token()
    assert await source.token()


async def test_a_client_that_does_not_rotate(workspace: Workspace) -> None:
    """Each use has a key of its own, so each gets a new access token."""
    async with await connected(workspace, "app", refresh_token_rotation="reuse") as oauth:
        source = await _source(oauth)
        seen = [await source.token()]
        for _ in range(3):
            source.rejected(seen[-1])
            seen.append(await source.token())
        assert len({each.access_token for each in seen}) == 4


async def test_a_life_shorter_than_asked_for(workspace: Workspace, requests: Requests) -> None:
    """Half a life is as much as can be had; more is no reason to refresh at each call."""
    async with await connected(workspace, "app", access_token_ttl=20) as oauth:
        source = await _source(oauth)
        for _ in range(20):
            assert await source.token(min_ttl=3600)
        assert requests.count <= 2


async def test_two_event_loops(oauth: Client, requests: Requests) -> None:
    """One refresh for both, each on a connection of its own."""
    source = await _source(oauth)
    source.rejected(await source.token())
    found: list[Tokens] = []

    async def elsewhere() -> None:
        found.append(await source.token())
        await oauth.close()

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    found.append(await source.token())
    await asyncio.to_thread(thread.join)
    assert len({each.access_token for each in found}) == 1
    assert requests.count == 1
