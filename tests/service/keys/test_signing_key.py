"""The signing key: every replica chooses the same, however far behind the log it is, and during rotations."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from events.aggregates import aggregate_names
from events.aggregates import key as key_events
from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from events.task_cancellation import end
from service.admin.key import ensure_keys, rotate
from service.context import AdminContext
from service.errors import OAuthError
from service.keys.keyring import Keyring
from service.keys.signing_key import SigningKey
from service.registry import registry as registry_module
from service.registry.change_aggregate import change
from service.registry.registry import Registry
from service.registry.tenant import Tenant
from tests.service.tenants import configure_acme

KEYS = Keyring({1: b"a" * 32, 2: b"b" * 32})


class World:
    """A log with a tenant without keys, and the replicas that read it."""

    def __init__(self, connection: Connection, log: Log) -> None:
        self.connection, self.log = connection, log
        self.following: list[asyncio.Task[None]] = []

    def replica(self, replicas: object = None) -> AdminContext:
        """A replica that does not follow the log yet."""
        nothing = cast("Any", None)  # deciding about keys needs no more than this
        registry = Registry(self.log, KEYS)
        return AdminContext(
            self.log, registry, nothing, KEYS, nothing, cast("Any", replicas), nothing, nothing, nothing
        )

    def follow(self, context: AdminContext) -> None:
        """Let the replica follow the log."""
        self.following.append(asyncio.create_task(context.registry.follow(self.connection, _never)))

    async def tenant(self, context: AdminContext) -> Tenant:
        """The tenant as this replica knows it."""
        tenant = await context.registry.tenant("acme")
        assert tenant is not None
        return tenant

    async def publish(self, number: int, *events: key_events.KeyEvent, secret: int = 2) -> str:
        """Append this key as it is; return its `kid`."""
        key = SigningKey(KEYS, "acme", secret, number, "ES256")
        written = (key_events.KeyPublished("ES256", secret, number, key.public_jwk()), *events)
        aggregate = aggregate_names.key("acme", key.kid)
        await change(self.log, aggregate, lambda _: written)
        return key.kid


class Overtaken:
    """Other replicas; during this one's barrier `others` runs, for example a rotation of theirs."""

    def __init__(self, others: Callable[[], Any]) -> None:
        self._others = others

    async def barrier(self, _seq: int) -> None:
        """Run the others."""
        await self._others()


def _never(error: BaseException) -> None:
    raise error


def _standing(tenant: Tenant) -> list[tuple[int, str]]:
    return sorted((known.state.number, known.state.status) for known in tenant.keys.values())


@pytest.fixture
async def world(connection: Connection, log: Log) -> AsyncIterator[World]:
    """On a broker of its own."""
    await configure_acme(log)
    world = World(connection, log)
    yield world
    await end(world.following)


async def test_a_replica_behind_the_log_creates_no_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tenant has some already; nor does it once it has caught up."""
    other = world.replica()
    unaware = await world.tenant(other)
    one = world.replica()
    world.follow(one)
    await ensure_keys(one, await world.tenant(one), "ES256")
    last = await world.log.last_setting()
    with monkeypatch.context() as shortened:
        shortened.setattr(registry_module, "CATCH_UP_SECONDS", 0.2)
        with pytest.raises(Unavailable, match="behind"):
            await ensure_keys(other, unaware, "ES256")
        with pytest.raises(Unavailable, match="behind"):
            await world.tenant(other)
    world.follow(other)
    await ensure_keys(other, await world.tenant(other), "ES256")
    assert await world.log.last_setting() == last
    assert _standing(unaware) == [(1, "active"), (2, "next")]


async def test_a_rotation_returns_the_key_that_signs(world: World) -> None:
    """Also if the log has an active key above the published next one, and two of the same number."""
    retired = key_events.KeyActivated(), key_events.KeyRetired()
    await world.publish(1, *retired)
    await world.publish(2)
    await world.publish(3, key_events.KeyActivated(), secret=1)
    newest = await world.publish(3, key_events.KeyActivated())

    async def nobody() -> None:
        return

    context = world.replica(Overtaken(nobody))
    world.follow(context)
    tenant = await world.tenant(context)
    assert tenant.signing is not None and tenant.signing.kid == newest, (
        "of two equal numbers, the key of the newer secret signs"
    )
    named = json.loads(await rotate(context, "acme", b"{}"))["kid"]
    assert tenant.signing is not None and tenant.signing.kid == named
    assert _standing(tenant)[2:] == [(3, "retired"), (3, "retired"), (4, "active"), (5, "next")]


async def test_a_rotation_overtaken_by_another_one_is_refused(world: World) -> None:
    """Its key would not sign any more."""
    kids: list[str] = []

    async def nobody() -> None:
        return

    async def rotate_elsewhere() -> None:
        kids.append(json.loads(await rotate(other, "acme", b"{}"))["kid"])

    other, one = world.replica(Overtaken(nobody)), world.replica(Overtaken(rotate_elsewhere))
    world.follow(other)
    world.follow(one)
    with pytest.raises(OAuthError, match="another rotation"):
        await rotate(one, "acme", b"{}")
    signing = (await world.tenant(one)).signing
    assert signing is not None and [signing.kid] == kids
