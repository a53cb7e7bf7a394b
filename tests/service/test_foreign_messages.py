"""A foreign message on top of an aggregate decides nothing and ends nothing (ADR 0024)."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from events.aggregates import aggregate_names
from events.aggregates import client as client_events
from events.aggregates import settings as tenant_events
from events.aggregates import subject as person
from events.aggregates.family_commit import codec
from events.aggregates.settings import ClientSettings, TenantSettings
from events.bus.connection import Connection
from events.log.log import Log
from service.decide.decision import Decision, Granted, Outcome, Refused
from service.decide.issue import issue
from service.decide.refresh_token import redeem
from service.decide.revocation import Revoke, revoke
from service.families.cache import LoadedFamily
from service.families.families import Families
from service.keys import keyring
from service.registry.blocked_subjects import BlockedSubjects
from service.registry.change_aggregate import change
from service.registry.registry import Registry
from tests.broker import Broker
from tests.events.log.foreign_headers import HEADERS, store
from tests.service.decide.given import issuing, redeeming

JUNK = (b"{}", b"\xff\x00 no JSON", b'{"v":1,"events":[],"state":{}}')
FAMILY = aggregate_names.family("acme", "f")


class World:
    """A log, and a replica's families on it."""

    def __init__(self, connection: Connection, log: Log) -> None:
        self.connection = connection
        self.log = log
        self.families = Families(log, BlockedSubjects(log))

    async def write(self, subject: str, body: bytes = b"{}") -> int:
        """Publish a foreign message directly; return its sequence."""
        return (await self.connection.jetstream().publish(subject, body)).seq

    async def open(self) -> Outcome:
        """Begin the family."""

        def begin(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
            return issue(loaded.state, issuing(jti=commit_id)._replace(now=now))

        return (await self.families.decide("acme", "f", "client:web", begin, new=True)).outcome

    async def refresh(self, generation: int, families: Families | None = None) -> Granted | Refused:
        """Present that generation."""

        def present(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
            return redeem(loaded.state, redeeming(generation)._replace(now=now, jti=commit_id))

        outcome = (await (families or self.families).decide("acme", "f", "client:web", present)).outcome
        assert isinstance(outcome, Granted | Refused)
        return outcome

    def elsewhere(self) -> Families:
        """Families of a replica without memory."""
        return Families(self.log, BlockedSubjects(self.log))


@pytest.fixture
def world(connection: Connection, log: Log) -> World:
    """On a broker of its own."""
    return World(connection, log)


def end(loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
    """The revocation of the family by an operator."""
    return revoke(loaded.state, Revoke("operator", "a test"))


@pytest.mark.parametrize("last_part", ["live", "revoked"])
async def test_a_family_continues_under_foreign_messages(world: World, last_part: str) -> None:
    """It neither ends nor goes back, with or without it in memory; appends still expect the right sequence."""
    await world.open()
    for junk in JUNK:
        await world.write(f"tokens.acme.family.f.{last_part}", junk)
    loaded = await world.elsewhere().load("acme", "f")
    assert loaded.state is not None and loaded.state.generation == 0 and loaded.seq == 1 and loaded.expected == 4
    assert isinstance(await world.refresh(0), Granted)  # from memory: it conflicts with the foreign message
    newest = await world.write(f"tokens.acme.family.f.{last_part}")
    assert isinstance(await world.refresh(1, world.elsewhere()), Granted)
    commit = codec.decode((await world.log.head(FAMILY)).stored.body)  # type: ignore[union-attr]  # there is one
    assert commit.prev_seq == newest - 1, "it refers to the commit before"


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
async def test_a_family_continues_under_messages_with_any_headers(
    world: World, nats_server: Broker, headers: bytes
) -> None:
    """It is refreshed and revoked at a replica without memory."""
    await world.open()
    await store(world.connection, nats_server.url, "tokens.acme.family.f.live", headers)
    assert isinstance(await world.refresh(0, world.elsewhere()), Granted)
    await store(world.connection, nats_server.url, "tokens.acme.family.f.revoked", headers)

    assert (await world.elsewhere().decide("acme", "f", "operator", end)).seq == 5


async def test_a_foreign_message_revives_no_family(world: World) -> None:
    """Its old tokens stay dead too."""
    await world.open()
    await world.refresh(0)

    await world.families.decide("acme", "f", "operator", end)
    await world.write("tokens.acme.family.f.live")
    await world.write("tokens.acme.family.f.revoked")
    for families in (world.families, world.elsewhere()):
        loaded = await families.load("acme", "f")
        assert loaded.state is not None and loaded.state.revoked is not None
        assert isinstance(await world.refresh(1, families), Refused)


async def test_a_reuse_is_detected_under_a_foreign_message(world: World) -> None:
    """RFC 9700 §4.14.2: the first generation is presented again."""
    await world.open()
    await world.refresh(0)
    await world.write("tokens.acme.family.f.live")
    assert isinstance(await world.refresh(0, world.elsewhere()), Refused)
    state = (await world.elsewhere().load("acme", "f")).state
    assert state is not None and state.revoked is not None and state.revoked.reason == "reuse_detected"


async def test_a_foreign_message_alone_is_no_family(world: World) -> None:
    """A family can still begin there."""
    await world.write("tokens.acme.family.f.live")
    assert (await world.elsewhere().load("acme", "f")).state is None
    assert isinstance(await world.refresh(0), Refused)
    await world.open()
    assert isinstance(await world.refresh(0), Granted)


async def test_settings_and_people_can_be_changed_under_foreign_messages(world: World) -> None:
    """On top of a commit, and where there was none."""
    alice = aggregate_names.subject("acme", "alice")
    for decided in (person.SubjectBlocked("alice"), person.SubjectUnblocked("alice"), person.SubjectBlocked("alice")):
        await world.write(alice.live)

        def decide(_state: object, event: person.SubjectEvent = decided) -> tuple[person.SubjectEvent, ...]:
            return (event,)

        assert (await change(world.log, alice, decide)).changed
    await world.write(alice.live)
    await world.families._people.newest("acme", "alice")
    assert isinstance(await world.open(), Refused), "a blocked person stays blocked"


async def test_a_family_begins_for_a_person_under_a_foreign_message(world: World) -> None:
    """The append expects the newest message about the person, of any kind."""
    await world.write(aggregate_names.subject("acme", "alice").live)
    await world.open()
    assert (await world.families.load("acme", "f")).state is not None


async def test_a_replica_reads_the_commits_under_foreign_messages(world: World, tmp_path: Path) -> None:
    """Tenants and clients, at its start and while it follows."""
    tenant, client = aggregate_names.tenant("acme"), aggregate_names.client("acme", "web")

    async def configure(scope: str) -> None:
        settings = (client_events.ClientConfigured(ClientSettings(scope=scope)),)
        await change(world.log, client, lambda _: settings)

    configured = (tenant_events.TenantConfigured(TenantSettings(issuer="https://acme.example")),)
    await change(world.log, tenant, lambda _: configured)
    await configure("read")
    for subject in (tenant.live, client.live, "tokens.acme.key.none", "tokens.NOBODY.tenant"):
        await world.write(subject)
    registry = Registry(world.log, keyring.create(tmp_path / "keyring.json"))
    failures: list[BaseException] = []
    following = asyncio.create_task(registry.follow(world.connection, failures.append))
    try:
        await asyncio.wait_for(registry.ready.wait(), 10)
        (known,) = registry.tenants()
        assert known.issuer == "https://acme.example" and known.clients["web"].rules.scope == "read"
        await configure("read write")
        newest = await world.write(client.live)
        await asyncio.wait_for(registry.wait_until_applied(newest), 10)
        assert known.clients["web"].rules.scope == "read write" and not failures
    finally:
        following.cancel()


async def test_a_family_is_found_under_many_foreign_messages(world: World) -> None:
    """More than a thousand, read in batches."""
    await world.open()
    state = (await world.families.load("acme", "f")).state
    assert state is not None
    for generation in range(30):
        await world.refresh(generation)
    for _ in range(1200):
        await world.connection.publish("tokens.acme.family.f.live", b"{}")
    await world.write("tokens.acme.family.f.live")
    loaded = await world.elsewhere().load("acme", "f")
    assert loaded.state is not None and loaded.state.generation == 30
    assert isinstance(await world.refresh(30, world.elsewhere()), Granted)
