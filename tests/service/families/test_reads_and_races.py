"""Where state may be read: an answer without an append is decided on the state of the log's leader."""

import asyncio
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from nats.aio.msg import Msg

from events.aggregates import aggregate_names
from events.aggregates import client as client_events
from events.aggregates import subject as subject_events
from events.aggregates.aggregate_names import Aggregate
from events.aggregates.client import ClientConfigured, ClientDisabled, ClientEnabled
from events.aggregates.settings import ClientSettings, TenantSettings
from events.aggregates.subject import ConsentWithdrawn, SubjectBlocked, SubjectUnblocked
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.appender import Conflict
from events.log.jetstream_api import Unavailable
from events.log.log import Head, Log
from events.log.stored_message import StoredMessage
from service.admin import await_effect
from service.admin import client as client_admin
from service.admin.cut_off_once import cut_off_once
from service.context import AdminContext, Context
from service.cut_offs.reactor import Reactor
from service.decide.access_token_claims import AccessTokenClaims, Actor
from service.decide.cut_off import CutOff
from service.decide.decision import Decision, Done, Granted, Refused
from service.decide.issue import issue
from service.decide.revocation import Revoke, revoke
from service.endpoints.grants import token_exchange
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.families.families import Families
from service.keys import keyring
from service.keys.generated_secret import digest
from service.refusal import refusal_of
from service.registry.blocked_subjects import BlockedSubjects
from service.registry.change_aggregate import change
from service.registry.registry import Registry
from tests.broker import Broker
from tests.service.decide.given import issuing


class StaleLog(Log):
    """A log whose followers all lag: each returns the commit that was the last one at its first read."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.remembered: dict[Aggregate, Head] = {}

    async def head(self, aggregate: Aggregate, *, leader: bool = True) -> Head:
        """A read not from the leader returns the last commit at this log's first read."""
        if leader:
            return await super().head(aggregate)
        if aggregate not in self.remembered:
            self.remembered[aggregate] = await super().head(aggregate, leader=False)
        return self.remembered[aggregate]


@pytest.fixture
async def log(connection: Connection) -> StaleLog:
    """On a broker of its own."""
    log = StaleLog(connection)
    await log.start()
    return log


async def _append(log: Log, aggregate: Aggregate, *events: msgspec.Struct) -> StoredMessage:
    """Append a client's or a person's events."""
    return (await change(log, aggregate, lambda _: events)).stored


def _begin(loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
    return issue(loaded.state, issuing())


def _end(loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
    return revoke(loaded.state, Revoke("operator", "a test"))


def _look(_loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
    return Decision(Done(), ())


# families


async def test_a_family_is_loaded_from_the_leader(log: StaleLog) -> None:
    """RFC 7662 §2.2: introspection uses this, and a revoked family must not look alive."""
    families = Families(log, BlockedSubjects(log))
    await families.decide("acme", "f1", "client:web", _begin, new=True)
    await log.head(aggregate_names.family("acme", "f1"), leader=False)
    await families.decide("acme", "f1", "operator", _end)
    loaded = await families.load("acme", "f1")
    assert loaded.state is not None and loaded.state.revoked is not None


async def test_a_decision_without_events_is_made_on_the_leader(log: StaleLog) -> None:
    """On a replica with an empty cache, while the follower that it reads first lags."""
    await Families(log, BlockedSubjects(log)).decide("acme", "f1", "client:web", _begin, new=True)
    await log.head(aggregate_names.family("acme", "f1"), leader=False)
    await Families(log, BlockedSubjects(log)).decide("acme", "f1", "operator", _end)
    concluded = await Families(log, BlockedSubjects(log)).decide("acme", "f1", "client:web", _look)
    assert concluded.state is not None and concluded.state.revoked is not None


async def test_an_unblocked_person_may_begin_where_the_block_is_cached(log: StaleLog) -> None:
    """Before a refusal the log is read, for this replica's cache may be stale."""
    people = BlockedSubjects(log)
    aggregate = aggregate_names.subject("acme", "alice")
    blocked = await _append(log, aggregate, SubjectBlocked("alice"))
    people.apply(
        "acme", aggregate_names.subject_digest("alice"), Head(blocked, subject_events.codec.decode(blocked.body), 1)
    )
    families = Families(log, people)
    refused = await families.decide("acme", "f1", "client:web", _begin, new=True)
    assert isinstance(refused.outcome, Refused)
    await _append(log, aggregate, SubjectUnblocked("alice"))
    granted = await families.decide("acme", "f2", "client:web", _begin, new=True)
    assert isinstance(granted.outcome, Granted)


@pytest.mark.parametrize("code", [10008, 10039, 0])
async def test_an_error_of_the_leader_is_not_an_empty_log(code: int) -> None:
    """Only "no message found" is; else a revocation would be answered `{}` (RFC 7009 §2.2) and end nothing."""

    async def request(*_: object, **__: object) -> Msg:
        error = {"error": {"code": 503, "err_code": code, "description": "JetStream system temporarily unavailable"}}
        return Msg(cast("Any", None), "", "", msgspec.json.encode(error))

    class Failing:
        jetstream_api = "$JS.API"

        def __init__(self) -> None:
            self.request = request

        def new_inbox(self) -> str:
            return "_INBOX.test"

    connection = cast("Any", Failing())
    with pytest.raises(Unavailable):
        await Log(connection).head(aggregate_names.family("acme", "f1"))


# token exchange


@pytest.mark.parametrize("act", [None, Actor("orders")])
async def test_the_rights_of_a_familys_client_are_not_read_from_a_stale_cache(
    log: StaleLog, tmp_path: Path, act: Actor | None
) -> None:
    """RFC 7591 §2, RFC 8693 §2.1: also for an exchanged token, whose holder is another client."""
    registry, people = Registry(log, keyring.create(tmp_path / "keyring.json")), BlockedSubjects(log)
    families = Families(log, people)
    await families.decide("acme", "f1", "client:web", _begin, new=True)
    for client_id, scope in (("web", "read write"), ("orders", "read write"), ("web", "read")):
        configured = ClientConfigured(ClientSettings(scope=scope))
        stored = await _append(log, aggregate_names.client("acme", client_id), configured)
        if scope != "read":  # that setting has not reached this replica
            registry.apply(stored)
    tenant = registry.known_tenant("acme")
    assert tenant is not None and tenant.clients["web"].rules.scope == "read write"
    context = cast("Context", SimpleNamespace(families=families, registry=registry))
    holder = "orders" if act else "web"
    claims = AccessTokenClaims("iss", "alice", "aud", holder, 0, 1, "jti", "f1", "read write", act=act)
    assert await token_exchange._owner_scope(context, tenant, claims) == "read"


# the reactor


def _reactor(log: Log, barrier: Any, connection: Any = None) -> Reactor:
    """A context whose replicas have this barrier."""
    context = SimpleNamespace(log=log, replicas=SimpleNamespace(barrier=barrier))
    return Reactor(
        connection or cast("Any", SimpleNamespace(jetstream=lambda **_: None)), cast("AdminContext", context)
    )


async def test_a_family_begun_before_the_barrier_is_within_the_bound(log: StaleLog) -> None:
    """The last sequence is read after the barrier, or the family would escape the cut-off."""
    begun: list[int] = []
    disabled = await _append(log, aggregate_names.client("acme", "web"), ClientDisabled())

    async def barrier(_seq: int) -> None:
        families = Families(log, BlockedSubjects(log))
        begun.append((await families.decide("acme", "late", "client:web", _begin, new=True)).seq)

    found = CutOff("client_disabled", "a test", client_id="web")
    assert await _reactor(log, barrier)._bound(disabled, found) > begun[0]


async def test_a_redelivered_disabling_spares_families_begun_after_the_enabling(log: StaleLog) -> None:
    """The consumer delivers at least once, maybe much later; the client's new families live on."""

    async def barrier(_seq: int) -> None:
        pass

    web = aggregate_names.client("acme", "web")
    disabled = await _append(log, web, ClientDisabled())
    await _append(log, web, ClientConfigured(ClientSettings(access_token_ttl=9)))
    enabled = await _append(log, web, ClientEnabled())
    begun = await Families(log, BlockedSubjects(log)).decide("acme", "new", "client:web", _begin, new=True)
    bound = await _reactor(log, barrier)._bound(disabled, CutOff("client_disabled", "a test", client_id="web"))
    assert disabled.seq < bound == enabled.seq < begun.seq


# administration


async def test_a_repetition_during_an_unfinished_cut_off_writes_nothing(log: StaleLog) -> None:
    """CONTRACT §5: the repeated command waits for the first one."""

    async def wait(_seq: int) -> bool:
        return False

    context = cast("AdminContext", SimpleNamespace(log=log, completed=SimpleNamespace(wait=wait)))
    event = ConsentWithdrawn("alice", "web")
    ordered = await _append(log, aggregate_names.subject("acme", "alice"), event)
    with pytest.raises(OAuthError, match=f"sequence {ordered.seq}"):
        await cut_off_once(context, "acme", event)
    assert await log.last_sequence() == ordered.seq


async def test_an_order_that_always_conflicts_is_unavailable(log: StaleLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """`temporarily_unavailable`, and no server error: the operator may repeat it."""
    seconds = 0.0
    clock = SimpleNamespace(time=lambda: seconds)
    monkeypatch.setattr("service.registry.change_aggregate.asyncio", SimpleNamespace(get_running_loop=lambda: clock))

    async def too_late(_subject: str, filter: str, *_: object, **__: object) -> int:
        nonlocal seconds
        seconds += 1
        raise Conflict(filter)

    monkeypatch.setattr(log, "append", too_late)
    with pytest.raises(Unavailable) as raised:
        await _append(log, aggregate_names.subject("acme", "alice"), SubjectBlocked("alice"))
    assert seconds == 2, "decided again after the first second, and not after CONFLICT_TIMEOUT_SECONDS"
    assert refusal_of(raised.value).code == "temporarily_unavailable"


async def test_orders_about_two_clients_are_not_confused(log: StaleLog) -> None:
    """Consent is withdrawn from A, then from B: each repetition returns its own sequence."""
    person = aggregate_names.subject("acme", "alice")
    one = await _append(log, person, ConsentWithdrawn("alice", "a"))
    other = await _append(log, person, ConsentWithdrawn("alice", "b"))
    last = (await log.head(person)).stored
    context = cast("AdminContext", SimpleNamespace(log=log))
    found = [
        await await_effect.newest_with(context, last, ConsentWithdrawn, client_id) for client_id in ("a", "b", "c")
    ]
    assert [stored.seq if stored else 0 for stored in found] == [one.seq, other.seq, 0]


async def test_one_of_two_racing_registrations_returns_the_valid_secret(
    log: StaleLog,
) -> None:
    """The other secret was never stored, and would always be refused."""

    async def barrier(_seq: int) -> None:
        pass

    async def known(*_: object) -> None:
        return None  # neither replica knows the client

    async def tenant(_name: str) -> Any:
        return SimpleNamespace(settings=TenantSettings(), name="acme")

    registry = SimpleNamespace(tenant=tenant, client=known, apply=lambda _stored: None)
    context = cast(
        "AdminContext", SimpleNamespace(log=log, registry=registry, replicas=SimpleNamespace(barrier=barrier))
    )
    body = msgspec.json.encode({"client_id": "web", "grant_types": ["client_credentials"], "scope": "read"})
    replies = await asyncio.gather(*(client_admin.put(context, "acme", body) for _ in range(2)))
    secrets = [msgspec.json.decode(reply).get("client_secret") for reply in replies]
    assert sum(secret is not None for secret in secrets) == 1
    stored = (await log.head(aggregate_names.client("acme", "web"))).stored
    assert stored is not None
    (secret,) = [secret for secret in secrets if secret is not None]
    assert client_events.codec.decode(stored.body).state.secret_hash == digest(secret)


async def test_a_stream_without_a_leader_is_unavailable(nats_server: Broker) -> None:
    """A missing answer does not mean an empty log."""
    connection = await connect(nats_server.url, "test")
    with pytest.raises(Unavailable):
        await Log(connection).head(aggregate_names.family("acme", "f1"))
    await stream.ensure(connection, stream.Required())
    assert (await Log(connection).head(aggregate_names.family("acme", "f1"))).stored is None
    await connection.close()
