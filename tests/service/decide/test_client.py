"""Registering, disabling and enabling clients: who gets a secret, and which earlier tokens stay void."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from events.aggregates import aggregate_names
from events.aggregates import client as client_events
from events.aggregates.client import (
    ClientConfigured,
    ClientDisabled,
    ClientEnabled,
    ClientSecretIssued,
    ClientState,
    evolve,
)
from events.aggregates.settings import ClientSettings
from events.bus.connection import Connection
from events.log.log import Log
from service import clock
from service.admin import client
from service.context import AdminContext
from service.decide.client import Enable, GetsSecret, Register, enable, register
from service.errors import OAuthError
from service.keys.keyring import Keyring
from service.registry.change_aggregate import change
from service.registry.registry import Registry
from service.replicas.broker_clock import Skew
from tests.service.decide.given import at
from tests.service.tenants import configure_acme

DISABLED = evolve(None, ClientDisabled("leaked", at(10)))
AGGREGATE = aggregate_names.client("acme", "web")
WEB = b'{"client_id":"web"}'
SETTINGS = ClientSettings(access_token_ttl=60)


REGISTERED = evolve(None, ClientConfigured(SETTINGS))
WITH_SECRET = evolve(REGISTERED, ClientSecretIssued("old"))


@pytest.mark.parametrize(
    ("state", "gets_secret", "is_issued"),
    [
        (None, "if_missing", True),
        (REGISTERED, "if_missing", True),
        (WITH_SECRET, "if_missing", False),
        (WITH_SECRET, "always", True),
        (None, "never", False),
        (REGISTERED, "never", False),
    ],
)
def test_a_secret_is_issued_if_there_is_none_or_a_new_one_is_ordered(
    state: ClientState | None, gets_secret: GetsSecret, is_issued: bool
) -> None:
    """CONTRACT §5. Repeating a registration changes nothing else."""
    configured = (ClientConfigured(SETTINGS),) if state is None else ()
    issued = (ClientSecretIssued("new"),) if is_issued else ()
    assert register(state, Register(SETTINGS, "new", gets_secret)) == (*configured, *issued)


@pytest.mark.parametrize(
    ("before", "ttl", "longest"),
    [((60,), 10, 60), ((60, 10), 5, 60), ((60,), 120, None), ((1,), None, 1)],
)
def test_a_registration_records_the_longest_earlier_lifetime(
    before: tuple[int, ...], ttl: int | None, longest: int | None
) -> None:
    """Access tokens issued under it may still be valid."""
    state: ClientState | None = None
    for each in before:
        for event in register(state, Register(ClientSettings(access_token_ttl=each), "new", "never")):
            state = evolve(state, event)
    settings = ClientSettings(access_token_ttl=ttl)
    assert register(state, Register(settings, "new", "never")) == (ClientConfigured(settings, longest),)


def test_tokens_from_before_the_enabling_stay_void() -> None:
    """Other changes of the registration meanwhile do not matter."""
    configured = evolve(DISABLED, ClientConfigured(ClientSettings(access_token_ttl=60)))
    events = enable(configured, Enable(DISABLED, at(12), "back"))
    assert events == (ClientEnabled("back", at(12)),)
    after = evolve(configured, events[0])
    assert not after.disabled and after.void_until == at(12)
    assert enable(after, Enable(DISABLED, at(13))) == ()


def test_enabling_never_moves_void_until_back() -> None:
    """The enabling replica's clock may be behind that of the disabling one."""
    assert enable(DISABLED, Enable(DISABLED, at(9))) == (ClientEnabled(None, at(10)),)


@pytest.mark.parametrize("seen", [ClientState(), evolve(DISABLED, ClientEnabled()), evolve(None, ClientDisabled())])
def test_a_client_that_was_disabled_again_is_not_enabled(seen: ClientState) -> None:
    """The second disabling may not be complete yet."""
    with pytest.raises(OAuthError, match="disabled meanwhile") as refused:
        enable(DISABLED, Enable(seen, at(12)))
    assert refused.value.code == "temporarily_unavailable"


def test_events_of_older_logs_keep_their_meaning() -> None:
    """If only the disabling has a time, that one counts."""
    assert evolve(DISABLED, ClientEnabled("back")) == ClientState(void_until=at(10))
    assert evolve(evolve(None, ClientDisabled()), ClientEnabled()) == ClientState()


class World:
    """A replica and its log with one client; disablings complete once `complete` is set."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.complete = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)
        self.completes = True
        keys = Keyring({1: b"a" * 32})
        others = SimpleNamespace(
            barrier=self._nobody_else, wait=self._wait, ended=self._none_ended
        )  # the parts of other processes
        no_matter = cast("Any", None)
        four = cast("tuple[Any, Any, Any, Any]", (others,) * 4)
        self.context = AdminContext(log, Registry(log, keys), no_matter, keys, no_matter, *four)

    async def _nobody_else(self, _seq: int) -> None:
        pass

    async def _wait(self, _seq: int) -> bool:
        self.waiting.release()
        await self.complete.wait()
        return self.completes

    async def _none_ended(self, *_: object) -> int:
        return 0

    async def state(self) -> ClientState:
        """The client's state in the log."""
        stored = (await self.log.head(AGGREGATE)).stored
        assert stored is not None
        return client_events.codec.decode(stored.body).state


@pytest.fixture
async def world(log: Log) -> World:
    """A replica whose client is not disabled."""
    await configure_acme(log)
    registered = (ClientConfigured(ClientSettings()),)
    await change(log, AGGREGATE, lambda _: registered)
    return World(log)


async def test_enabling_waits_until_the_disabling_is_complete(world: World) -> None:
    """Until every replica has received it, and until the current second of `iat` is over."""
    disabling = asyncio.create_task(client.disable(world.context, "acme", WEB))
    await world.waiting.acquire()
    enabling = asyncio.create_task(client.enable(world.context, "acme", WEB))
    await world.waiting.acquire()
    assert (await world.state()).disabled
    completed_at = clock.now()
    world.complete.set()
    await asyncio.gather(disabling, enabling)
    state = await world.state()
    assert not state.disabled and state.void_until is not None
    assert completed_at < state.void_until < clock.now()
    assert (state.void_until + timedelta(microseconds=1)).microsecond == 0


async def test_a_disabling_that_does_not_complete_is_reported(world: World) -> None:
    """The client is not enabled, and the error says why."""
    world.completes = False
    world.complete.set()
    for operation in (client.disable, client.enable):
        with pytest.raises(OAuthError, match="sequence") as refused:
            await operation(world.context, "acme", WEB)
        assert refused.value.code == "temporarily_unavailable"
    assert (await world.state()).disabled


async def test_a_clock_set_back_enables_no_client(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else later tokens could not be distinguished from earlier ones."""
    monkeypatch.setattr(client, "CLOCKS_APART_SECONDS", 0)
    world.complete.set()
    await client.disable(world.context, "acme", WEB)
    stopped = clock.now().replace(microsecond=999_000)
    monkeypatch.setattr(clock, "now", lambda: stopped)
    with pytest.raises(OAuthError, match="set back"):
        await client.enable(world.context, "acme", WEB)
    assert (await world.state()).disabled


@pytest.mark.parametrize("ahead", [200, -200])
async def test_tokens_by_a_clock_ahead_stay_void(
    connection: Connection, world: World, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """CONTRACT §5: one replica's machine is 200 s ahead of the other's, which disables and enables."""
    world.complete.set()
    machine = datetime.now
    monkeypatch.setattr(clock, "_broker_ahead_of_steady", None)

    async def on_a_machine(seconds: float) -> None:
        monkeypatch.setattr(clock, "machine", lambda: machine(UTC) + timedelta(seconds=seconds))
        await Skew().measure(connection)

    await on_a_machine(ahead)
    given = int(clock.now().timestamp())
    await on_a_machine(0)
    await client.disable(world.context, "acme", WEB)
    await client.enable(world.context, "acme", WEB)
    await on_a_machine(-ahead)
    void_until = (await world.state()).void_until
    assert void_until is not None and given <= void_until.timestamp() < int(clock.now().timestamp())


async def test_the_commits_of_a_client_have_no_decreasing_times(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `audit verify` would report the log as BAD."""
    world.complete.set()
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(hours=6))
    await client.disable(world.context, "acme", WEB)
    before = (await world.log.head(AGGREGATE)).commit
    monkeypatch.setattr(clock, "now", now)
    await client.enable(world.context, "acme", WEB)
    after = (await world.log.head(AGGREGATE)).commit
    assert before is not None and after is not None and before.prev != after.prev and after.at >= before.at


@pytest.mark.parametrize("microsecond", [0, 500_000, 999_999])
async def test_no_replicas_clock_is_still_in_the_void_second(monkeypatch: pytest.MonkeyPatch, microsecond: int) -> None:
    """Also just before its end, when a faster clock has begun the next one, for `iat` has whole seconds."""
    apart = timedelta(seconds=client.CLOCKS_APART_SECONDS)
    began = clock.now().replace(microsecond=microsecond)
    now = [began]

    async def sleep(seconds: float) -> None:
        now[0] += timedelta(seconds=seconds)

    monkeypatch.setattr(clock, "now", lambda: now[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    void_until = await client._second_over()
    fastest, slowest = began + apart, now[0] - apart
    assert int(fastest.timestamp()) <= void_until.timestamp(), "earlier tokens are void"
    assert int(slowest.timestamp()) > void_until.timestamp(), "later ones are not"


async def test_enabling_an_enabled_client_changes_nothing(world: World) -> None:
    """It appends nothing and waits for nothing."""
    seq = await world.log.last_sequence()
    assert msgspec.json.decode(await client.enable(world.context, "acme", WEB))["seq"] == seq
    assert await world.log.last_sequence() == seq
