"""A replica's registry follows the log, and does not decide on its memory after it has stopped following."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from events.aggregates import aggregate_names
from events.aggregates import client as client_events
from events.aggregates import key as key_events
from events.aggregates import role as role_events
from events.aggregates import settings as tenant_events
from events.aggregates.settings import ClientSettings, TenantSettings
from events.bus.connection import Connection
from events.log.log import Log
from events.log.stored_message import StoredMessage
from service import clock
from service.clock import FOR_EVER
from service.keys import keyring
from service.keys.keyring import KeyringError
from service.keys.signing_key import SigningKey
from service.registry.change_aggregate import change
from service.registry.registry import Registry
from service.registry.tenant import Tenant


class World:
    """A replica's registry on an empty log, and the file of its keyring."""

    def __init__(self, connection: Connection, log: Log, file: Path) -> None:
        self.connection, self.log, self.file = connection, log, file
        self.keys = keyring.create(file)
        self.registry = Registry(log, self.keys)

    async def follow(self) -> BaseException:
        """Follow the log until that fails; return the failure."""
        failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        following = asyncio.create_task(self.registry.follow(self.connection, failure.set_result))
        async with asyncio.timeout(10):
            await following
            return await failure


@pytest.fixture
def world(connection: Connection, log: Log, tmp_path: Path) -> World:
    """On a broker of its own."""
    return World(connection, log, tmp_path / "keyring.json")


async def test_an_unreadable_keyring_ends_following(world: World) -> None:
    """A key of a newer secret was added, and the keyring file was copied here with the wrong mode."""
    newer = keyring.add(world.file)
    world.file.chmod(0o644)
    events = key_events.KeyPublished("HS256", newer, 0, {}), key_events.KeyActivated()
    aggregate = aggregate_names.key("acme", f"mac-{newer}")
    await change(world.log, aggregate, lambda _: events)
    failure = await world.follow()
    assert isinstance(failure, KeyringError) and "chmod 600" in str(failure)
    assert not world.registry.ready.is_set()


async def test_an_unforeseen_failure_ends_following_too(world: World) -> None:
    """Else the replica would miss all later commits."""
    unforeseen = RuntimeError("unforeseen")

    def fail(_tenant: str, _client_id: str) -> None:
        raise unforeseen

    world.registry = Registry(world.log, world.keys, fail)
    aggregate, disabled = aggregate_names.client("acme", "web"), (client_events.ClientDisabled(),)
    await change(world.log, aggregate, lambda _: disabled)
    assert await world.follow() is unforeseen


async def test_a_voided_client_is_reported_however_late_the_replica_is(world: World) -> None:
    """Also for a disabling that it only sees by the enabling: connections from before must end."""
    voided: list[tuple[str, str]] = []
    world.registry = Registry(world.log, world.keys, lambda *who: voided.append(who))
    web = aggregate_names.client("acme", "web")
    world.registry.apply(await _settle(world, web, client_events.ClientConfigured(ClientSettings())))
    assert not voided and world.registry.void_until("acme", "web") is None
    until = datetime(2026, 11, 29, 12, 0, 5, 1, tzinfo=UTC)
    disabled, enabled = client_events.ClientDisabled(at=until), client_events.ClientEnabled(void_until=until)
    world.registry.apply(await _settle(world, web, disabled, enabled))
    assert voided == [("acme", "web")] and world.registry.void_until("acme", "web") == until
    world.registry.apply(await _settle(world, web, client_events.ClientConfigured(ClientSettings(max_connections=3))))
    assert voided == [("acme", "web")]
    world.registry.apply(await _settle(world, web, disabled))
    assert voided == 2 * [("acme", "web")] and world.registry.void_until("acme", "web") == FOR_EVER


async def test_a_voided_role_is_reported_too(world: World) -> None:
    """A name that was revoked and added again is a new role; a client of that name is not affected."""
    voided: list[tuple[str, str]] = []
    world.registry = Registry(world.log, world.keys, lambda *who: voided.append(who))
    eve, added = aggregate_names.role("acme", "eve"), role_events.RoleAdded("edge", "sha256:x")

    async def settle(*events: role_events.RoleEvent) -> None:
        written = await change(world.log, eve, lambda _: events)
        world.registry.apply(written.stored)

    await settle(added)
    assert not voided
    await settle(role_events.RoleRevoked())
    assert world.registry.void_until("acme", "role:eve") == FOR_EVER
    before = clock.now()
    await settle(added)
    assert voided == 2 * [("acme", "role:eve")]
    until = world.registry.void_until("acme", "role:eve")
    assert until is not None and before <= until <= clock.now()
    assert world.registry.void_until("acme", "eve") is None


async def _settle(world: World, aggregate: aggregate_names.Aggregate, *events: msgspec.Struct) -> StoredMessage:
    """Append the events to a tenant's or a client's aggregate; the registry does not follow the log."""
    return (await change(world.log, aggregate, lambda _: events)).stored


async def _known(world: World) -> Tenant:
    """The tenant `acme` with client `web` in the log and, with a lease, in memory."""
    acme = aggregate_names.tenant("acme")
    world.registry.apply(await _settle(world, acme, tenant_events.TenantConfigured(TenantSettings(access_token_ttl=1))))
    web = client_events.ClientConfigured(ClientSettings())
    world.registry.apply(await _settle(world, aggregate_names.client("acme", "web"), web))
    key = SigningKey(world.keys, "acme", world.keys.first, 1, "ES256")
    published = key_events.KeyPublished("ES256", world.keys.first, 1, key.public_jwk()), key_events.KeyActivated()
    aggregate = aggregate_names.key("acme", key.kid)
    written = await change(world.log, aggregate, lambda _: published)
    world.registry.apply(written.stored)
    world.registry.current_until = asyncio.get_running_loop().time() + 3
    world.registry._applied_seq = written.stored.seq
    tenant = await world.registry.tenant("acme")
    assert tenant is not None
    return tenant


async def test_without_a_lease_a_disabling_is_read_from_the_log(world: World) -> None:
    """A replica that missed a command must not decide on its memory from before."""
    tenant = await _known(world)
    await _settle(world, aggregate_names.client("acme", "web"), client_events.ClientDisabled())
    remembered = await world.registry.client(tenant, "web")
    assert remembered is not None and not remembered.state.disabled, "its lease permits that"
    world.registry.current_until = float("-inf")
    read = await world.registry.client(tenant, "web")
    assert read is not None and read.state.disabled


async def test_without_a_lease_a_tenants_settings_are_read_from_the_log(world: World) -> None:
    await _known(world)
    configured = tenant_events.TenantConfigured(TenantSettings(access_token_ttl=2))
    await _settle(world, aggregate_names.tenant("acme"), configured)
    found = await world.registry.tenant("acme")
    assert found is not None and found.settings.access_token_ttl == 1, "its lease permits that"
    world.registry.current_until = float("-inf")
    found = await world.registry.tenant("acme")
    assert found is not None and found.settings.access_token_ttl == 2


@pytest.mark.parametrize(
    "aggregate", [aggregate_names.tenant("acme"), aggregate_names.client("acme", "web")], ids=["tenant", "client"]
)
async def test_an_older_commit_applied_after_a_newer_one_changes_nothing(
    world: World, aggregate: aggregate_names.Aggregate
) -> None:
    """One is read from the log while the other is still being delivered."""
    tenant = await _known(world)
    configured = (
        tenant_events.TenantConfigured(TenantSettings(access_token_ttl=2))
        if aggregate == aggregate_names.tenant("acme")
        else client_events.ClientConfigured(ClientSettings(access_token_ttl=2))
    )
    older = (await world.log.head(aggregate)).stored
    newer = await _settle(world, aggregate, configured)
    assert older is not None
    for stored in (newer, older):
        world.registry.apply(stored)
    assert tenant.clients["web"].rules.access_token_ttl == 2


@pytest.mark.parametrize("kind", ["tenant", "client", "key"])
async def test_the_newest_setting_is_a_commit_of_any_kind(world: World, kind: str) -> None:
    """A lease begins once all settings are applied: those of tenants, clients and keys."""
    await _known(world)
    match kind:
        case "tenant":
            stored = await _settle(
                world, aggregate_names.tenant("acme"), tenant_events.TenantConfigured(TenantSettings())
            )
        case "client":
            stored = await _settle(world, aggregate_names.client("acme", "web"), client_events.ClientDisabled())
        case _:
            key = aggregate_names.key("acme", "mac-9")
            published = (key_events.KeyPublished("HS256", world.keys.first, 9, {}),)
            written = await change(world.log, key, lambda _: published)
            stored = written.stored
    assert await world.log.last_setting() == stored.seq
