"""Who asks a lot about one tenant keeps nobody else waiting, where requests are rare (administration, audit)."""

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
from events.fairness.request_gate import Asker, Gate
from tests.broker import Broker as Server

ACME, GLOBEX = Asker("acme", False), Asker("globex", False)


def test_each_tenant_has_its_rate() -> None:
    """And the service, which asks what a cut-off is to end, has one of its own."""
    now = [100.0]
    asked = Gate(2, lambda: now[0])
    assert [asked.admits(ACME) for _ in range(4)] == [True, True, False, False]
    assert asked.admits(GLOBEX)
    assert asked.admits(Asker("acme", True))
    now[0] += 0.5
    assert [asked.admits(ACME) for _ in range(2)] == [True, False]


def test_what_waits_is_bounded_for_a_tenant_and_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly they are answered; who is through makes room, and nothing is kept of him."""
    monkeypatch.setattr(request_gate, "MAX_REQUESTS", 3)
    monkeypatch.setattr(request_gate, "MAX_REQUESTS_OF_TENANT", 2)
    asked = Gate(100)
    assert [asked.admits(ACME) for _ in range(3)] == [True, True, False]
    assert [asked.admits(GLOBEX) for _ in range(2)] == [True, False]
    for asker in (ACME, ACME, GLOBEX):
        asked.ended(asker)
    assert not asked._under_way and asked.admits(GLOBEX)


def test_the_services_own_questions_have_room_beside_everybodys_flood() -> None:
    """However many auditors, of however many tenants, have filled theirs; and their own is bounded as well."""
    asked = Gate(10_000, lambda: 100.0)
    tenants = [f"t{number}" for number in range(request_gate.MAX_REQUESTS // request_gate.MAX_REQUESTS_OF_TENANT)]
    for is_own in (False, True):
        askers = [
            Asker(tenant, is_own)
            for tenant in ("acme", *tenants)
            for _ in range(request_gate.MAX_REQUESTS_OF_TENANT + 1)
        ]
        assert sum(map(asked.admits, askers)) == request_gate.MAX_REQUESTS
    asked.ended(Asker("acme", True))
    assert not asked.admits(ACME) and asked.admits(Asker("globex", True))


def test_whom_a_request_counts_for() -> None:
    """By its inbox it is known what the service itself asks; what no name can be read from is one asker."""
    assert Asker.of("admin.acme.role.list", "_INBOX.role.operator.x") == ACME
    assert Asker.of("audit.acme.families", "") == ACME
    assert Asker.of("audit.acme.families", "_INBOX.role.inquiry.x") == Asker("acme", True)
    for subject in ("admin.\x00.role.list", "admin.\udc80.role.list"):
        assert Asker.of(subject, "_INBOX.x") == Asker("", False)


def _still(rate: int) -> Gate:
    """One whose clock stands still."""
    return Gate(rate, lambda: 100.0)


@asynccontextmanager
async def _answering(server: Server, handle: Handle, asked: Gate) -> AsyncIterator[Connection]:
    """A connection to ask on `admin.<tenant>.list`."""
    serving, asking = await connect(server.url, "service"), await connect(server.url, "operator")
    broker = Broker(serving, asked)
    serve(broker, "admin.*.list", handle, queue="orders")
    await broker.start()
    await serving.flush()
    yield asking
    await broker.stop()
    await serving.close()
    await asking.close()


async def test_a_flood_about_one_tenant_lies_before_nobody_elses_request(nats_server: Server) -> None:
    """Thousands that are sent at once are refused as they are read, and the next one's is the next that is answered."""
    handled: Counter[str] = Counter()
    replies: Counter[str] = Counter()
    all_told = asyncio.Event()

    async def handle(subject: str, _body: bytes, _asker: Asker) -> tuple[bytes, dict[str, str]]:
        handled[subject.split(".")[1]] += 1
        return b'{"items":[]}', {}

    async def told(message: Msg) -> None:
        headers = message.headers or {}
        replies[headers.get("Nats-Service-Error-Code", "ok")] += 1
        if replies.total() == 2_000:
            all_told.set()

    async with _answering(nats_server, handle, _still(10)) as asking:
        await asking.subscribe("_INBOX.told", cb=told)
        for _ in range(2_000):
            await asking.publish("admin.acme.list", b"{}", reply="_INBOX.told")
        assert json.loads((await asking.request("admin.globex.list", b"{}", timeout=30)).data) == {"items": []}
        assert handled == {"acme": 10, "globex": 1}
        async with asyncio.timeout(30):
            await all_told.wait()
        assert replies == {"ok": 10, "429": 1_990}


async def test_what_is_refused_says_so(nats_server: Server) -> None:
    """In the words of every other refusal (CONTRACT §2)."""

    async def handle(_subject: str, _body: bytes, _asker: Asker) -> tuple[bytes, dict[str, str]]:
        return b"{}", {}

    async with _answering(nats_server, handle, _still(1)) as asking:
        await asking.request("admin.acme.list", b"{}", timeout=30)
        refused = await asking.request("admin.acme.list", b"{}", timeout=30)
        assert json.loads(refused.data)["error"] == "slow_down"
        assert refused.headers == {"Nats-Service-Error": "slow_down", "Nats-Service-Error-Code": "429"}


@pytest.mark.parametrize("handed_over", [True, False])
async def test_an_answer_that_would_go_to_others_is_counted_and_not_given(
    nats_server: Server, monkeypatch: pytest.MonkeyPatch, handed_over: bool
) -> None:
    """Nor what names nobody to be answered, as an answer of the broker's that was sent here. The next is answered."""
    handled: list[str] = []

    async def handle(subject: str, _body: bytes, _asker: Asker) -> tuple[bytes, dict[str, str]]:
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


async def test_whoever_answers_is_told_who_asks(nats_server: Server) -> None:
    """So that the service's own question need not wait in anybody else's turn."""
    askers: list[Asker] = []
    told = asyncio.Event()

    async def handle(_subject: str, _body: bytes, asker: Asker) -> tuple[bytes, dict[str, str]]:
        askers.append(asker)
        return b"{}", {}

    async def hear(_message: Msg) -> None:
        told.set()

    async with _answering(nats_server, handle, _still(10)) as asking:
        await asking.request("admin.acme.list", b"{}", timeout=30)
        await asking.subscribe(f"{request_gate.OWN_INBOX}x", cb=hear)
        await asking.publish("admin.acme.list", b"{}", reply=f"{request_gate.OWN_INBOX}x")
        async with asyncio.timeout(30):
            await told.wait()
    assert askers == [ACME, Asker("acme", True)]


async def test_what_was_let_in_is_answered_before_the_end(nats_server: Server) -> None:
    """Also what waits for its turn (CONTRACT §7: a drain answers what has arrived)."""
    go = asyncio.Event()
    began: Counter[str] = Counter()

    async def handle(_subject: str, _body: bytes, _asker: Asker) -> tuple[bytes, dict[str, str]]:
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
