"""Many requests about one tenant delay no other tenant's (administration, audit)."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.msg import Msg

from events.bus.connect import connect
from events.bus.connection import Connection
from events.bus.faststream_broker import Broker, Handle, serve
from events.fairness import request_gate
from events.fairness.request_gate import Gate, GateKey
from tests.broker import Broker as Server

ACME, GLOBEX = GateKey("acme", False), GateKey("globex", False)


def test_each_tenant_has_its_rate() -> None:
    """The service's own requests, which list what a cut-off ends, have a rate of their own."""
    now = [100.0]
    asked = Gate(2, lambda: now[0])
    assert [asked.try_admit(ACME) for _ in range(4)] == [True, True, False, False]
    assert asked.try_admit(GLOBEX)
    assert asked.try_admit(GateKey("acme", True))
    now[0] += 0.5
    assert [asked.try_admit(ACME) for _ in range(2)] == [True, False]


def test_waiting_requests_are_bounded_for_a_tenant_and_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished request makes room and leaves nothing behind."""
    monkeypatch.setattr(request_gate, "MAX_REQUESTS", 3)
    monkeypatch.setattr(request_gate, "MAX_REQUESTS_OF_TENANT", 2)
    asked = Gate(100)
    assert [asked.try_admit(ACME) for _ in range(3)] == [True, True, False]
    assert [asked.try_admit(GLOBEX) for _ in range(2)] == [True, False]
    for key in (ACME, ACME, GLOBEX):
        asked.ended(key)
    assert not asked._under_way and asked.try_admit(GLOBEX)


def test_the_services_own_requests_have_room_beside_a_flood() -> None:
    """However many auditors of however many tenants fill theirs; the service's own are bounded too."""
    asked = Gate(10_000, lambda: 100.0)
    tenants = [f"t{number}" for number in range(request_gate.MAX_REQUESTS // request_gate.MAX_REQUESTS_OF_TENANT)]
    for is_own in (False, True):
        keys = [
            GateKey(tenant, is_own)
            for tenant in ("acme", *tenants)
            for _ in range(request_gate.MAX_REQUESTS_OF_TENANT + 1)
        ]
        assert sum(map(asked.try_admit, keys)) == request_gate.MAX_REQUESTS
    asked.ended(GateKey("acme", True))
    assert not asked.try_admit(ACME) and asked.try_admit(GateKey("globex", True))


def test_the_key_of_a_request() -> None:
    """The inbox shows the service's own requests; all unreadable tenant names are one key."""
    assert GateKey.of("admin.acme.role.list", "_INBOX.role.operator.x") == ACME
    assert GateKey.of("audit.acme.families", "") == ACME
    assert GateKey.of("audit.acme.families", "_INBOX.role.inquiry.x") == GateKey("acme", True)
    for subject in ("admin.\x00.role.list", "admin.\udc80.role.list"):
        assert GateKey.of(subject, "_INBOX.x") == GateKey("", False)


def _still(rate: int) -> Gate:
    """A gate whose clock stands still."""
    return Gate(rate, lambda: 100.0)


@asynccontextmanager
async def _answering(server: Server, handle: Handle, asked: Gate) -> AsyncIterator[Connection]:
    """A connection for requests to `admin.<tenant>.list`."""
    serving, asking = await connect(server.url, "service"), await connect(server.url, "operator")
    broker = Broker(serving, asked)
    serve(broker, "admin.*.list", handle, queue="orders")
    await broker.start()
    await serving.flush()
    yield asking
    await broker.stop()
    await serving.close()
    await asking.close()


async def test_a_flood_about_one_tenant_delays_no_other_request(nats_server: Server) -> None:
    """Thousands of requests are refused as they are read, and the other one is answered next."""
    handled: Counter[str] = Counter()
    replies: Counter[str] = Counter()
    all_replied = asyncio.Event()

    async def handle(subject: str, _body: bytes, _key: GateKey) -> tuple[bytes, dict[str, str]]:
        handled[subject.split(".")[1]] += 1
        return b'{"items":[]}', {}

    async def receive(message: Msg) -> None:
        headers = message.headers or {}
        replies[headers.get("Nats-Service-Error-Code", "ok")] += 1
        if replies.total() == 2_000:
            all_replied.set()

    async with _answering(nats_server, handle, _still(10)) as asking:
        await asking.subscribe("_INBOX.flood", cb=receive)
        for _ in range(2_000):
            await asking.publish("admin.acme.list", b"{}", reply="_INBOX.flood")
        assert json.loads((await asking.request("admin.globex.list", b"{}", timeout=30)).data) == {"items": []}
        assert handled == {"acme": 10, "globex": 1}
        async with asyncio.timeout(30):
            await all_replied.wait()
        assert replies == {"ok": 10, "429": 1_990}


async def test_a_refusal_has_the_usual_form(nats_server: Server) -> None:
    """CONTRACT §2."""

    async def handle(_subject: str, _body: bytes, _key: GateKey) -> tuple[bytes, dict[str, str]]:
        return b"{}", {}

    async with _answering(nats_server, handle, _still(1)) as asking:
        await asking.request("admin.acme.list", b"{}", timeout=30)
        refused = await asking.request("admin.acme.list", b"{}", timeout=30)
        assert json.loads(refused.data)["error"] == "slow_down"
        assert refused.headers == {"Nats-Service-Error": "slow_down", "Nats-Service-Error-Code": "429"}


@pytest.mark.parametrize("handed_over", [True, False])
async def test_a_request_with_another_inbox_is_counted_and_not_handled(
    nats_server: Server, monkeypatch: pytest.MonkeyPatch, handed_over: bool
) -> None:
    """The same holds without a reply subject, as for a broker's answer sent here. The next one is answered."""
    handled: list[str] = []

    async def handle(subject: str, _body: bytes, _key: GateKey) -> tuple[bytes, dict[str, str]]:
        handled.append(subject)
        return b"{}", {}

    if not handed_over:
        monkeypatch.setattr(Broker, "_listening", lambda _: [])
    asked = _still(10)
    async with _answering(nats_server, handle, asked) as asking:
        for reply in ("tokens.acme.tenant", "_INBOX.>", "elsewhere", ""):
            await asking.publish("admin.acme.list", b"{}", reply=reply)
        await asking.request("admin.globex.list", b"{}", timeout=30)
        assert handled == ["admin.globex.list"]
        assert asked.foreign_replies == 4


async def test_the_handler_gets_the_key(nats_server: Server) -> None:
    """So the service's own requests need not wait for others' turns."""
    keys: list[GateKey] = []
    replied = asyncio.Event()

    async def handle(_subject: str, _body: bytes, key: GateKey) -> tuple[bytes, dict[str, str]]:
        keys.append(key)
        return b"{}", {}

    async def receive_reply(_message: Msg) -> None:
        replied.set()

    async with _answering(nats_server, handle, _still(10)) as asking:
        await asking.request("admin.acme.list", b"{}", timeout=30)
        await asking.subscribe(f"{request_gate.OWN_INBOX}x", cb=receive_reply)
        await asking.publish("admin.acme.list", b"{}", reply=f"{request_gate.OWN_INBOX}x")
        async with asyncio.timeout(30):
            await replied.wait()
    assert keys == [ACME, GateKey("acme", True)]


async def test_admitted_requests_are_answered_before_the_end(nats_server: Server) -> None:
    """CONTRACT §7: a drain also answers requests that wait for their turn."""
    go = asyncio.Event()
    began: Counter[str] = Counter()

    async def handle(_subject: str, _body: bytes, _key: GateKey) -> tuple[bytes, dict[str, str]]:
        began["all"] += 1
        await go.wait()
        return b"{}", {}

    serving, asking = await connect(nats_server.url, "service"), await connect(nats_server.url, "operator")
    broker = Broker(serving, Gate(100))
    serve(broker, "admin.*.list", handle, queue="orders")
    await broker.start()
    await serving.flush()
    asked = [asyncio.create_task(asking.request("admin.acme.list", b"{}", timeout=30)) for _ in range(20)]
    async with asyncio.timeout(30):
        while began["all"] < 20:
            await asyncio.sleep(0)
    stopping = asyncio.create_task(broker.stop())
    await asyncio.sleep(0)
    go.set()
    await stopping
    assert [reply.data for reply in await asyncio.gather(*asked)] == [b"{}"] * 20
    await serving.close()
    await asking.close()
