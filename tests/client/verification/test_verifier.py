"""A verifier of a running service: it accepts what is good, and no more once the service has taken it back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heirloom_client import Client, InvalidClient, InvalidToken, NotPermitted, Resource, Stale, Verifier
from tests.client.conftest import connected
from tests.paused import paused
from tests.system.service import Caller, Service
from tests.system.workspace import ACCESS_TOKEN, EXCHANGE, Workspace, made

PATIENCE_SECONDS = 60

UNKNOWN_KEY = "no key of the issuer has that kid"


async def resource_of(workspace: Workspace, host: str = "", name: str = "api") -> Resource:
    """The role `resource` in that tenant, under a name of its own."""
    told = await workspace.order("role.add", role="resource", name=name)
    workspace.service.secrets.append(told["secret"])
    url = f"nats://{told['user']}:{told['secret']}@{host or workspace.service.host}"
    return Client.connect(url, tenant=workspace.name, timeout=PATIENCE_SECONDS)


@asynccontextmanager
async def verifying(workspace: Workspace, audience: str = "", **options: Any) -> AsyncIterator[Verifier]:
    """A verifier for the issuer's own resource, or another one."""
    async with (
        await resource_of(workspace) as resource,
        await Verifier.follow(resource, audience=audience or workspace.issuer, **options) as verifier,
    ):
        yield verifier


@pytest.fixture
async def verifier(workspace: Workspace) -> AsyncIterator[Verifier]:
    """Of the test's own tenant."""
    async with verifying(workspace) as verifier:
        yield verifier


async def until_refused(verifier: Verifier, token: str) -> str:
    """Why, as soon as the token is no good any more."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                verifier.verify(token)
            except InvalidToken as refused:
                return refused.description
            except Stale:
                pass  # on a busy machine
            await asyncio.sleep(0.01)


async def accepted(verifier: Verifier, token: str) -> bool:
    """Whether it is good, as soon as the verifier has fresh news."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return bool(verifier.verify(token))
            except Stale:
                await asyncio.sleep(0.01)
            except InvalidToken as refused:
                if refused.description != UNKNOWN_KEY:  # on a busy machine the feed may be some moments behind
                    raise
                await asyncio.sleep(0.01)


async def access_token(caller: Caller, sub: str = "alice") -> dict[str, Any]:
    """Tokens of a new family."""
    return await caller.issue(sub, "read offline_access")


async def exchanged(caller: Caller, token: str) -> str:
    """A token that the caller has got for another one."""
    request = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN}
    return str((await caller.succeed("token", request))["access_token"])


async def test_each_way_to_take_a_token_back(workspace: Workspace, verifier: Verifier) -> None:
    """A family, a token, a person, a consent, a client: each is refused, and another person's or token's is not."""
    await workspace.register("app")
    await workspace.register("other")
    async with workspace.client("app") as app, workspace.client("other") as other:
        stays = (await access_token(app, "bob"))["access_token"]
        family, single = await access_token(app), await access_token(app)
        newer = await app.refresh(single["refresh_token"])
        person, consent = await access_token(app, "carol"), await access_token(other, "dave")
        assert verifier.fresh or await accepted(verifier, stays)
        for tokens in (family, single, newer, person, consent):
            assert await accepted(verifier, tokens["access_token"])
        await app.succeed("revoke", {"token": family["refresh_token"]})
        await app.succeed("revoke", {"token": single["access_token"]})
        await workspace.order("subject.block", sub="carol")
        await workspace.order("consent.revoke", sub="dave", client_id="other")
        for tokens in (family, single, person, consent):
            assert await until_refused(verifier, tokens["access_token"]) == "it was revoked"
        assert await accepted(verifier, newer["access_token"])
        assert await accepted(verifier, stays)
        await workspace.order("client.disable", client_id="app")
        for token in (stays, newer["access_token"]):
            assert await until_refused(verifier, token) == "it was revoked"


async def test_what_a_client_has_got_by_exchange(workspace: Workspace) -> None:
    """Its disabling makes that void, though the family lives on; enabled again, it has to exchange anew."""
    await workspace.register("app")
    await workspace.register("orders")
    async with (
        verifying(workspace, "orders") as verifier,
        workspace.client("app") as app,
        workspace.client("orders") as orders,
    ):
        tokens = await access_token(app)
        got = await exchanged(orders, tokens["access_token"])
        assert await accepted(verifier, got)
        await workspace.order("client.disable", client_id="orders")
        assert await until_refused(verifier, got) == "it was revoked"
        await workspace.order("client.enable", client_id="orders")
        async with AsyncExitStack() as stack:
            url = await workspace.service.url("orders", workspace.name)
            again = await stack.enter_async_context(workspace.service.client("orders", workspace.name, url))
            assert await accepted(verifier, await exchanged(again, tokens["access_token"]))
        assert await until_refused(verifier, got) == "it was revoked"
        await app.succeed("revoke", {"token": tokens["access_token"]})  # and what came of it
        assert await until_refused(verifier, got) == "it was revoked"


async def test_a_new_key_is_known_before_it_signs(workspace: Workspace, verifier: Verifier) -> None:
    """From the feed: no question is asked for it, nor for a token of another tenant's key, or an opaque one."""
    await workspace.register("app")
    async with workspace.client("app") as app:
        old = await access_token(app)
        assert await accepted(verifier, old["access_token"])
        asked = verifier._follower.questions
        for _ in range(3):
            await workspace.order("key.rotate")
            assert await accepted(verifier, (await access_token(app))["access_token"])
        assert await accepted(verifier, old["access_token"])
        async with made(workspace.service) as another:
            await another.register("app")
            async with another.client("app") as stranger:
                theirs = (await access_token(stranger))["access_token"]
        for _ in range(50):
            assert await until_refused(verifier, theirs) == UNKNOWN_KEY
        assert verifier._follower.questions == asked
        await workspace.register("app", access_token_format="opaque")
        opaque = (await access_token(app))["access_token"]
        assert "introspect" in await until_refused(verifier, opaque)


async def test_for_another_resource(workspace: Workspace) -> None:
    """A token for the issuer is no token for the API."""
    await workspace.register("app")
    async with verifying(workspace, "https://api.example") as verifier, workspace.client("app") as app:
        assert await until_refused(verifier, (await access_token(app))["access_token"]) == "it is for another resource"
        request = {"sub": "alice", "scope": "read", "resource": "https://api.example"}
        assert await accepted(verifier, (await app.succeed("issue", request))["access_token"])


async def test_what_becomes_of_tokens_without_news(workspace: Workspace) -> None:
    """Rejected; or accepted for a while, but for what is known to be revoked; or asked about."""
    await workspace.register("app")
    introspecting = await connected(workspace, "api")
    (publisher,) = workspace.service.pids("heirloom.publisher")
    async with (
        introspecting,
        workspace.client("app") as app,
        await resource_of(workspace) as resource,
        await Verifier.follow(resource, audience=workspace.issuer, stale_after=2) as strict,
        await Verifier.follow(
            resource, audience=workspace.issuer, stale_after=2, on_stale="accept", accept_for=3600
        ) as lenient,
        await Verifier.follow(
            resource, audience=workspace.issuer, stale_after=2, on_stale="accept", accept_for=0.01
        ) as short,
        await Verifier.follow(
            resource,
            audience=workspace.issuer,
            stale_after=2,
            on_stale="introspect",
            introspect=introspecting.introspect,
        ) as asking,
    ):
        before, after, good = [(await access_token(app)) for _ in range(3)]
        await app.succeed("revoke", {"token": before["refresh_token"]})
        for verifier in (strict, lenient, short, asking):
            await until_refused(verifier, before["access_token"])
        with paused(publisher):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while strict.fresh or short._accepts_all_the_same():
                    await asyncio.sleep(0.05)
            await app.succeed("revoke", {"token": after["refresh_token"]})
            for verifier in (strict, asking, short):
                with pytest.raises(Stale, match="no fresh news"):
                    verifier.verify(good["access_token"])
                with pytest.raises(InvalidToken):
                    verifier.verify(before["access_token"])
            assert lenient.verify(after["access_token"]) and await lenient.check(good["access_token"])
            with pytest.raises(InvalidToken):
                lenient.verify(before["access_token"])
            with pytest.raises(Stale):
                await strict.check(good["access_token"])
            assert await asking.check(good["access_token"])
            for tokens in (before, after):
                with pytest.raises(InvalidToken):
                    await asking.check(tokens["access_token"])
        for verifier in (strict, lenient, short, asking):
            assert await until_refused(verifier, after["access_token"]) == "it was revoked"
            assert await accepted(verifier, good["access_token"])


async def test_a_cold_start(workspace: Workspace, tmp_path: Path) -> None:
    """With a snapshot it asks for what has come since; without a broker it is there, and stale."""
    await workspace.register("app")
    path = tmp_path / "snapshot"
    async with workspace.client("app") as app:
        before, after, good = [(await access_token(app)) for _ in range(3)]
        async with (
            await resource_of(workspace) as resource,
            await Verifier.follow(resource, audience=workspace.issuer, snapshot_file=path) as verifier,
        ):
            await app.succeed("revoke", {"token": before["refresh_token"]})
            await until_refused(verifier, before["access_token"])
        known = verifier._feed.n
        await app.succeed("revoke", {"token": after["refresh_token"]})
        nowhere = Client.connect("nats://x.role.y:z@127.0.0.1:1", tenant=workspace.name, timeout=0.5)
        options: dict[str, Any] = {"on_stale": "accept", "accept_for": 3600}
        async with await Verifier.follow(nowhere, audience=workspace.issuer, snapshot_file=path, **options) as verifier:
            assert not verifier.fresh and verifier._feed.n == known
            assert verifier.verify(good["access_token"]) and verifier.verify(after["access_token"])
            with pytest.raises(InvalidToken):
                verifier.verify(before["access_token"])
        async with (
            await resource_of(workspace, name="again") as resource,
            await Verifier.follow(resource, audience=workspace.issuer, snapshot_file=path) as verifier,
        ):
            for tokens in (before, after):
                assert await until_refused(verifier, tokens["access_token"]) == "it was revoked"
            assert await accepted(verifier, good["access_token"])


async def test_who_may_not_hear_it(workspace: Workspace, service: Service) -> None:
    """A client, another tenant's name, and a wrong secret: each an error that says so, and not a time-out."""
    await workspace.register("app")
    client_url = await service.url("app", workspace.name)
    told = await workspace.order("role.add", role="resource", name="api")
    service.secrets.append(told["secret"])
    url = f"nats://{told['user']}:{told['secret']}@{service.host}"
    for address, tenant, kind in (
        (client_url, workspace.name, NotPermitted),
        (url, "acme", NotPermitted),
        (url.replace(told["secret"], "wrong"), workspace.name, InvalidClient),
    ):
        resource = Client.connect(address, tenant=tenant, timeout=PATIENCE_SECONDS)
        with pytest.raises(kind) as refused:
            await Verifier.follow(resource, audience="x")
        assert told["secret"] not in str(refused.value)
        await resource.close()


async def test_impossible_options(workspace: Workspace) -> None:
    """Named before anything is opened."""
    resource = Client.connect("nats://x.role.y:z@127.0.0.1:1", tenant=workspace.name)
    impossible: tuple[dict[str, Any], ...] = (
        {"leeway": 301},
        {"leeway": -1},
        {"on_stale": "introspect"},
        {"accept_for": 5.0},
        {"on_stale": "accept"},
    )
    for options in impossible:
        with pytest.raises(ValueError, match=r"leeway|on_stale"):
            await Verifier.follow(resource, audience="x", **options)
