"""Devices that wait for approval, on a real broker: bounded, exact, and not in the log before an answer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from events.aggregates.family_events import DeviceAuthorizationStarted
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from events.log.stream import last_sequence
from service import clock
from service.errors import OAuthError
from service.replicas import waiting_devices
from service.replicas.waiting_devices import STREAM, WaitingDevices
from tests.broker import Broker

ASKED = DeviceAuthorizationStarted("tv", "read", ("aud",), "seed", clock.now() + timedelta(minutes=10))


@pytest.fixture
async def two(nats_server: Broker, connection: Connection) -> AsyncIterator[tuple[WaitingDevices, WaitingDevices]]:
    """The waiting devices of two replicas."""
    other = await connect(nats_server.url, "other")
    replicas = WaitingDevices(connection), WaitingDevices(other)
    for replica in replicas:
        await replica.start(1)
    yield replicas
    await other.close()


async def test_a_device_waits_at_every_replica_until_it_is_answered(
    two: tuple[WaitingDevices, WaitingDevices], connection: Connection
) -> None:
    """RFC 8628 §3.1: it belongs to its tenant, no other device gets its name, and the log stays empty."""
    one, other = two
    assert await one.add("acme", "f1", ASKED, 10)
    assert not await other.add("acme", "f1", replace(ASKED, client_id="radio"), 10)
    assert await other.find("acme", "f1") == ASKED
    assert await other.find("globex", "f1") is None
    await other.remove("acme", "f1", "tv")
    assert await one.find("acme", "f1") is None
    assert await last_sequence(connection) == 0


async def test_a_client_that_begins_too_many_devices_is_refused(
    two: tuple[WaitingDevices, WaitingDevices], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8628 §5.2: the bounds of client and tenant give `slow_down`, that of all `temporarily_unavailable`."""
    monkeypatch.setattr(waiting_devices, "COUNTED_SECONDS", 0)
    one, other = two
    for number in range(3):
        assert await (one, other)[number % 2].add("acme", f"f{number}", ASKED, 3)
    with pytest.raises(OAuthError, match="slow_down"):
        await other.add("acme", "f3", ASKED, 3)
    assert await other.add("acme", "f4", replace(ASKED, client_id="radio"), 3)
    monkeypatch.setattr(waiting_devices, "MAX_WAITING_OF_TENANT", 4)
    with pytest.raises(OAuthError, match="devices of this tenant"):
        await one.add("acme", "f5", replace(ASKED, client_id="radio"), 3)
    assert await one.add("globex", "f5", ASKED, 3)
    monkeypatch.setattr(waiting_devices, "MAX_WAITING", 5)
    with pytest.raises(OAuthError, match="temporarily_unavailable"):
        await one.add("globex", "f6", ASKED, 3)


async def test_counting_costs_one_request_for_many_devices(
    two: tuple[WaitingDevices, WaitingDevices], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of waiting devices are read once in a while, not for each request."""
    monkeypatch.setattr(waiting_devices, "COUNTED_SECONDS", 3600)
    one, other = two
    assert await other.add("acme", "f0", ASKED, 10)
    asked: list[str] = []
    ask = one._stream.request

    async def counted(operation: str, **request: Any) -> bytes:
        asked.append(operation)
        return await ask(operation, **request)

    monkeypatch.setattr(one._stream, "request", counted)
    begun = [one.add("acme", f"f{number}", ASKED, 10) for number in range(1, 31)]
    outcomes = await asyncio.gather(*begun, return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome is True] == [True] * 9
    assert {str(outcome).partition(":")[0] for outcome in outcomes if outcome is not True} == {"slow_down"}
    assert asked == ["INFO"]


async def test_a_failing_count_fails_once_for_all_who_wait_for_it(
    two: tuple[WaitingDevices, WaitingDevices], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each would wait for the timeout in turn. One that is cancelled does not cancel the others."""
    one, _ = two
    asked: list[str] = []
    fails = asyncio.Event()
    ask = one._stream.request

    async def silent(operation: str, **_request: Any) -> bytes:
        asked.append(operation)
        await fails.wait()
        raise Unavailable("no leader")

    with monkeypatch.context() as without_leader:
        without_leader.setattr(one._stream, "request", silent)
        begun = [asyncio.create_task(one.add("acme", f"f{number}", ASKED, 100)) for number in range(64)]
        while not asked:
            await asyncio.sleep(0)
        begun[0].cancel()
        await asyncio.sleep(0)
        fails.set()
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, *[Unavailable] * 63]
    assert asked == ["INFO"]
    assert one._stream.request == ask and await one.add("acme", "f", ASKED, 100), "the next one is counted again"


async def test_waiting_devices_are_in_memory_bounded_and_expire(
    connection: Connection, two: tuple[WaitingDevices, WaitingDevices]
) -> None:
    """With their code, by the broker's clock."""
    config = (await connection.jetstream().stream_info(STREAM)).config
    assert (config.storage, config.max_age, config.max_msgs) == ("memory", 605, waiting_devices.MAX_WAITING)


async def test_a_restarted_broker_has_forgotten_waiting_devices(nats_server: Broker) -> None:
    """RFC 8628 §3.5: the device gets `expired_token`, and can begin again."""
    connection = await connect(nats_server.url, "test")
    replica = WaitingDevices(connection)
    await replica.start(1)
    assert await replica.add("acme", "f1", ASKED, 10)
    await connection.close()
    nats_server.stop()
    nats_server.start()
    connection = await connect(nats_server.url, "test")
    replica = WaitingDevices(connection)
    await replica.start(1)
    assert await replica.find("acme", "f1") is None
    assert await replica.add("acme", "f1", ASKED, 10)
    await connection.close()
