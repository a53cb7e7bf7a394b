"""Devices on two replicas of one broker: exactly one answer counts, and only that is in the log."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace

from events.aggregates.aggregate_names import family
from events.aggregates.client import ClientState
from events.aggregates.commit import type_of
from events.aggregates.family import DEVICE_GRANT
from events.aggregates.family_commit import codec
from events.aggregates.family_events import DeviceAuthorizationStarted
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from events.log.stored_message import StoredMessage
from service import clock
from service.context import Caller
from service.decide.authorization_code import expired, redeem_device_code
from service.decide.decision import Decision, Outcome, Refused
from service.endpoints.authorize import answer
from service.endpoints.grants import device_code
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.families.families import Families
from service.registry.blocked_subjects import BlockedSubjects
from service.replicas import waiting_devices
from service.replicas.user_code_guesses import MAX_GUESSES_OF_PERSON, UserCodeGuesses
from service.replicas.waiting_devices import WaitingDevices
from tests.broker import Broker
from tests.service.decide.given import RULES, answering, redeeming_device_code

TENANT, ROUNDS, MINUTES = "acme", 12, 10


async def _registered(*_: object) -> SimpleNamespace:
    """A tenant, or a client that may request what these devices request."""
    return SimpleNamespace(state=ClientState(), rules=replace(RULES, grant_types=(DEVICE_GRANT,)))


class Replica:
    """The parts of a replica that devices need."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.log = Log(connection)
        self.waiting, self.guesses = WaitingDevices(connection), UserCodeGuesses(connection)
        families = Families(self.log, BlockedSubjects(self.log))
        registry = SimpleNamespace(tenant=_registered, client=_registered)
        devices = SimpleNamespace(waiting=self.waiting, guesses=self.guesses)
        parts = SimpleNamespace(families=families, devices=devices, registry=registry)
        tenant, login = SimpleNamespace(name=TENANT), SimpleNamespace(client_id="login")
        self._caller = cast("Caller", SimpleNamespace(context=parts, tenant=tenant, client=login, actor="client:login"))

    async def start(self) -> None:
        """Start the parts."""
        await stream.ensure(self.connection, stream.Required())
        await self.log.start()
        await self.waiting.start(1)
        await self.guesses.start(1)

    async def begin(self, family_id: str, minutes: float = MINUTES) -> None:
        """Begin a device authorization."""
        asked = DeviceAuthorizationStarted("tv", "read", ("aud",), "seed", clock.now() + timedelta(minutes=minutes))
        assert await self.waiting.add(TENANT, family_id, asked, 100)

    async def answer(self, family_id: str, *, approved: bool = True, sub: str = "alice") -> str:
        """Answer as a person; return `ok` or the error's code."""
        answered = answering(approved, now=clock.now(), sub=sub)
        try:
            await answer(self._caller, family_id, answered)
        except OAuthError as refusal:
            return refusal.code
        return "ok"

    async def poll(self, family_id: str) -> str:
        """Poll as the device; return `ok` or the error's code."""

        def decide(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
            if loaded.state is None:
                return Decision(expired())
            command = redeeming_device_code(now=now, rules=replace(RULES, scope="read"), client_id="tv", jti=commit_id)
            return redeem_device_code(loaded.state, command)

        return _error_of((await device_code.poll(self._caller, family_id, decide)).outcome)

    async def events(self, family_id: str) -> list[str]:
        """The types of the family's events, in order."""
        found: list[StoredMessage] = []
        after = 0
        while (following := await self.log.next_after(family(TENANT, family_id), after)) is not None:
            found.append(following)
            after = following.seq
        return [type_of(event) for each in found for event in codec.decode(each.body).events]


def _error_of(outcome: Outcome) -> str:
    return outcome.error.code if isinstance(outcome, Refused) else "ok"


@pytest.fixture
async def replicas(nats_server: Broker) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas of one broker."""
    made = [Replica(await connect(nats_server.url, name, echo=False)) for name in ("one", "other")]
    for replica in made:
        await replica.start()
    yield made[0], made[1]
    for replica in made:
        await replica.connection.close()


async def test_two_people_approve_one_device_at_once(replicas: tuple[Replica, Replica]) -> None:
    """RFC 8628 §3.3: one approval succeeds, the other is refused, and one family with one grant exists."""
    one, other = replicas
    for number in range(ROUNDS):
        name = f"f{number}"
        await one.begin(name)
        answers = await asyncio.gather(*(each.answer(name, sub=sub) for each, sub in ((one, "alice"), (other, "bob"))))
        assert Counter(answers) == {"ok": 1, "invalid_grant": 1}
        assert await other.waiting.find(TENANT, name) is None
        assert [await each.poll(name) for each in (one, other)] == ["ok", "invalid_grant"]
        assert (await one.events(name)).count("GrantAuthorized") == 1


async def test_one_approves_and_another_denies_at_once(replicas: tuple[Replica, Replica]) -> None:
    """RFC 8628 §3.3: the device gets the answer that was accepted."""
    one, other = replicas
    for number in range(ROUNDS):
        name = f"f{number}"
        await one.begin(name)
        first, second = (one, other)[:: 1 if number % 2 else -1]
        denied, approved = await asyncio.gather(first.answer(name, approved=False), second.answer(name, sub="bob"))
        assert {denied, approved} == {"ok", "invalid_grant"}
        polled = await one.poll(name), await other.poll(name)
        assert polled == (("ok", "invalid_grant") if approved == "ok" else ("access_denied", "access_denied"))
        answers = {"GrantAuthorized", "DeviceAuthorizationDenied"} & set(await one.events(name))
        assert answers == {"GrantAuthorized" if approved == "ok" else "DeviceAuthorizationDenied"}


async def test_a_device_polls_while_it_is_approved(replicas: tuple[Replica, Replica]) -> None:
    """RFC 8628 §3.5: it gets `authorization_pending` or its tokens, once, and never `expired_token`."""
    one, other = replicas
    for number in range(ROUNDS):
        name = f"f{number}"
        await one.begin(name)
        approving = asyncio.create_task(other.answer(name))

        async def polling(replica: Replica, until: asyncio.Task[str] = approving, name: str = name) -> list[str]:
            received = []
            while not until.done():
                received.append(await replica.poll(name))
            return received

        polls = await asyncio.gather(*(polling(each) for each in (one, other, one, other)))
        received = [*itertools.chain(*polls)]
        assert await approving == "ok"
        received.append(await one.poll(name))
        assert received.count("ok") == 1 and set(received) <= {"authorization_pending", "ok", "invalid_grant"}
        assert (await one.events(name)).count("TokenRedeemed") == 1


async def test_a_device_that_nobody_approves_leaves_nothing(replicas: tuple[Replica, Replica]) -> None:
    """Polls and guesses append nothing to the log."""
    one, other = replicas
    await one.begin("f")
    assert {await each.poll("f") for each in (one, other) * 5} == {"authorization_pending"}
    assert {await each.poll("another") for each in (one, other)} == {"expired_token"}
    assert await one.answer("another") == "invalid_grant"
    assert await one.log.last_sequence() == 0


async def test_a_late_approval_is_refused(replicas: tuple[Replica, Replica]) -> None:
    """RFC 8628 §3.5: the device has expired although the broker still stores it."""
    one, other = replicas
    await one.begin("f", minutes=0)
    assert await other.waiting.find(TENANT, "f") is not None
    answers = await asyncio.gather(one.answer("f"), other.answer("f", approved=False), other.answer("f"))
    assert set(answers) == {"invalid_grant"}
    assert [await each.poll("f") for each in (one, other)] == ["expired_token"] * 2
    assert await one.log.last_sequence() == 0


@pytest.mark.parametrize("counted_seconds", [0, 3600])
async def test_many_devices_begin_on_two_replicas_at_once(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch, counted_seconds: int
) -> None:
    """After a new count at most the bound and one for each request under way; before it, the bound at each replica."""
    monkeypatch.setattr(waiting_devices, "COUNTED_SECONDS", counted_seconds)
    one, other = replicas
    asked = DeviceAuthorizationStarted("tv", "read", ("aud",), "seed", clock.now() + timedelta(minutes=MINUTES))

    async def begins(number: int) -> bool:
        try:
            return await (one, other)[number % 2].waiting.add(TENANT, f"f{number}", asked, 10)
        except OAuthError as refusal:
            assert refusal.code == "slow_down"
            return False

    together, under_way = 0, 4
    for start in range(0, 40, under_way):
        together += sum(await asyncio.gather(*(begins(number) for number in range(start, start + under_way))))
    assert 10 <= together < 10 + under_way if counted_seconds == 0 else together <= 20
    assert not await begins(40) and not await begins(41)


async def test_a_broker_starts_anew_under_replicas_that_go_on(
    replicas: tuple[Replica, Replica], nats_server: Broker
) -> None:
    """Waiting devices are lost and get `expired_token`; approved ones stay, and new ones can begin."""
    one, other = replicas
    for name in ("waits", "approved"):
        await one.begin(name)
    assert await other.answer("approved") == "ok"
    for _ in range(MAX_GUESSES_OF_PERSON):
        await one.guesses.count(TENANT, "login", "mallory")
    nats_server.kill()
    nats_server.start()
    assert await _again(one, "waits") == "expired_token"
    assert await _again(other, "approved") == "ok"
    assert await other.answer("waits") == "invalid_grant"
    assert await one.guesses.count(TENANT, "login", "mallory"), "the counts are gone as well"
    await other.begin("new")
    assert await one.answer("new") == "ok" and await other.poll("new") == "ok"


async def _again(replica: Replica, name: str) -> str:
    """Poll until the answer is not `temporarily_unavailable`."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await replica.poll(name)
            except Unavailable:
                await asyncio.sleep(0.1)
