"""A verifier that was cut off rejects, and knows all that it has missed before it accepts anything again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from heirloom_client import InvalidToken, Stale, Verifier
from tests.client.verification.relay import relayed
from tests.client.verification.test_verifier import PATIENCE_SECONDS, access_token, resource_of, until_refused
from tests.system.service import Caller, Service, running
from tests.system.workspace import Workspace, made

REVOKED, VERIFIERS = 120, 30


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Service]:
    """A service whose broker may be killed."""
    with running(tmp_path / "data") as service:
        yield service


@pytest.fixture
async def tenant(alone: Service) -> AsyncIterator[Workspace]:
    """A tenant of it."""
    async with made(alone) as workspace:
        await workspace.register("app")
        yield workspace


def is_fresh(verifier: Verifier) -> bool:
    """Read anew: it changes."""
    return verifier.fresh


@pytest.mark.parametrize("killed", [False, True], ids=["", "the broker is killed meanwhile"])
async def test_cut_off_while_much_happens(alone: Service, tenant: Workspace, killed: bool) -> None:
    """Revocations and new keys; what it accepts first, it accepts knowing them all."""
    async with (
        relayed(alone.host) as (relay, address),
        await resource_of(tenant, address) as resource,
        await Verifier.follow(resource, audience=tenant.issuer, stale_after=2) as verifier,
        tenant.client("app") as app,
    ):
        tokens = [await access_token(app, f"person{number}") for number in range(REVOKED)]
        relay.pause()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while is_fresh(verifier):
                await asyncio.sleep(0.05)
        gone = [token["access_token"] for token in tokens]
        for token in tokens:
            await app.succeed("revoke", {"token": token["refresh_token"]})
        for _ in range(2):
            await tenant.order("key.rotate")
        good = (await access_token(app))["access_token"]
        with pytest.raises(InvalidToken):
            verifier.verify(good)  # its key is not known here
        with pytest.raises(Stale):
            verifier.verify(gone[0])
        if killed:
            before = alone.pids("nats-server")
            alone.kill_child("nats-server")
            async with asyncio.timeout(PATIENCE_SECONDS):
                while alone.pids("nats-server") in ([], before):
                    await asyncio.sleep(0.05)
        relay.resume()
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            while not is_fresh(verifier):
                for token in gone:
                    with pytest.raises((Stale, InvalidToken)):
                        verifier.verify(token)
                await asyncio.sleep(0)
        assert verifier.verify(good)
        for token in gone:
            with pytest.raises(InvalidToken, match="it was revoked"):
                verifier.verify(token)


async def test_many_that_lose_the_broker_ask_little(alone: Service, tenant: Workspace) -> None:
    """All are back with a few questions each, and know what was revoked meanwhile."""
    async with AsyncExitStack() as stack, tenant.client("app") as app:
        verifiers: list[Verifier] = []
        for number in range(VERIFIERS):
            resource = await stack.enter_async_context(await resource_of(tenant, name=f"api{number}"))
            verifier = await Verifier.follow(resource, audience=tenant.issuer)
            verifiers.append(await stack.enter_async_context(verifier))
        token = await access_token(app)
        asked = [verifier._follower.questions for verifier in verifiers]
        alone.kill_child("nats-server")
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            while not await _revoked(app, token["refresh_token"]):
                await asyncio.sleep(0.1)
            for verifier in verifiers:
                assert await until_refused(verifier, token["access_token"]) == "it was revoked"
            for verifier in verifiers:
                while not verifier.fresh:
                    await asyncio.sleep(0.05)
        again = [verifier._follower.questions for verifier in verifiers]
        assert all(1 <= after - before <= 12 for after, before in zip(again, asked, strict=True)), again


async def _revoked(caller: Caller, token: str) -> bool:
    """Whether it was, on a broker that may not be there yet."""
    try:
        await caller.come_back()
        return "error" not in await caller.ask("revoke", {"token": token}, seconds=2)
    except (NatsError, OSError):
        return False
