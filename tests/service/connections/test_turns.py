"""Coroutines take turns: a flood of one tenant or host delays no other, at every place with turns."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import nkeys
import pytest

from events.bus.faststream_broker import Handle
from events.fairness.fair_queue import Limits, Turns
from events.fairness.request_gate import OWN_INBOX, GateKey
from heirloom.what_if import query
from heirloom.what_if.query import WhatIf
from projections.progress import Progress
from projections.queries import server as audit_queries
from projections.queries.query import Query
from projections.queries.requests import AuditRequest
from projections.queries.server import Audit
from service.admin import operations as admin
from service.connections import auth_callout as callout_module
from service.connections.auth_callout import Callout
from tests.events.fairness.slow import Slow, ended

ANY_QUERY = Query(AuditRequest, lambda _context, _request: {})


async def asked(handle: Handle, subject: str, reply: str = "") -> tuple[bytes, dict[str, str]]:
    """Handle a request on this subject with this reply subject, and return the answer."""
    return await handle(subject, b"{}", GateKey.of(subject, reply))


async def test_one_tenants_cut_offs_delay_no_other_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders have bounds for each tenant and kind: others begin at once, and one too many is refused."""
    limits = Limits(at_once=8, of_tenant=3, of_client=2, waiting=8, waiting_of_tenant=8, waiting_of_client=2)
    monkeypatch.setattr(admin, "LIMITS", limits)
    turns, slow = Turns(admin.LIMITS), Slow()

    async def block(_context: Any, tenant: str, _body: bytes) -> bytes:
        return await slow(tenant)

    context = cast("Any", SimpleNamespace(skew=SimpleNamespace(require=lambda: None)))
    blocks = admin._handle(context, turns, "subject.block", block)
    puts = admin._handle(context, turns, "client.put", block)
    flood = [asyncio.create_task(asked(blocks, "admin.acme.subject.block")) for _ in range(4)]
    await slow.until("acme", "acme")
    others = [
        asyncio.create_task(asked(handle, subject))
        for handle, subject in ((puts, "admin.acme.client.put"), (blocks, "admin.globex.subject.block"))
    ]
    await slow.until("acme", "acme", "acme", "globex")
    async with ended(slow, *flood, *others):
        body, headers = await asked(blocks, "admin.acme.subject.block")
        assert msgspec.json.decode(body)["error"] == "temporarily_unavailable"
        assert headers["Nats-Service-Error-Code"] == "503"


async def test_one_tenants_queries_delay_no_other_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many heavy queries an auditor sends, other tenants and other kinds find room."""
    slow = Slow()
    monkeypatch.setattr(audit_queries, "QUERIES", dict.fromkeys(("families", "search"), ANY_QUERY))
    limits = Limits(at_once=4, of_tenant=3, of_client=2, waiting=8, waiting_of_tenant=8, waiting_of_client=2)
    monkeypatch.setattr(audit_queries, "LIMITS", limits)

    async def log_end() -> int:
        return 0

    audit = Audit(Progress(), log_end)
    kinds: list[str] = []

    async def look_up(*_arguments: Any) -> bytes:
        return await slow(kinds.pop(0))

    monkeypatch.setattr(audit, "_run", look_up)
    kinds += ["acme search"] * 2
    flood = [asyncio.create_task(asked(audit.answer, "audit.acme.search")) for _ in range(4)]
    await slow.until("acme search", "acme search")
    kinds += ["acme families", "globex search"]
    others = [
        asyncio.create_task(asked(audit.answer, subject)) for subject in ("audit.acme.families", "audit.globex.search")
    ]
    await slow.until("acme search", "acme search", "acme families", "globex search")
    kinds += ["acme search"] * 2
    async with ended(slow, *flood, *others):
        body, headers = await asked(audit.answer, "audit.acme.search")
        assert msgspec.json.decode(body)["error"] == "temporarily_unavailable"
        assert headers["Nats-Service-Error-Code"] == "503"


async def test_auditors_do_not_delay_the_services_own_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even queries of one tenant and kind: a cut-off lists families (ADR 0032) while all auditors do."""
    slow = Slow()
    monkeypatch.setattr(audit_queries, "QUERIES", {"families": ANY_QUERY})

    async def log_end() -> int:
        return 0

    audit = Audit(Progress(), log_end)
    monkeypatch.setattr(audit, "_run", lambda *_arguments: slow("looked up"))
    flood = [
        asyncio.create_task(asked(audit.answer, f"audit.{tenant}.families"))
        for tenant in ("acme", "globex", "initech")
        for _ in range(audit_queries.LIMITS.waiting_of_client)
    ]
    filled = ["looked up"] * audit_queries.LIMITS.at_once
    await slow.until(*filled)
    own = asyncio.create_task(asked(audit.answer, "audit.acme.families", OWN_INBOX + "x"))
    await slow.until(*filled, "looked up")
    async with ended(slow, *flood, own):
        pass


async def test_histories_are_replayed_one_at_a_time_and_tenants_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process, one waiting request of each tenant, and a few in all, also of invented tenants."""
    slow = Slow()

    async def find_out(_connection: Any, terms: Any, *_others: Any) -> dict[str, Any]:
        await slow(terms.tenant)
        return {}

    monkeypatch.setattr(query, "find_out", find_out)
    ask = WhatIf(cast("Any", None))
    policy = b'{"policy": {"refresh_token_grace": 1}}'
    flood = [asyncio.create_task(ask(GateKey("acme", False), policy)) for _ in range(2)]
    await slow.until("acme")
    other = asyncio.create_task(ask(GateKey("globex", False), policy))
    await slow.until("acme")
    invented = [
        asyncio.create_task(ask(GateKey(f"t{number}", False), policy)) for number in range(query.LIMITS.waiting - 2)
    ]
    await slow.until("acme")
    for tenant in ("acme", "t99"):
        with pytest.raises(Exception, match="other histories are being followed"):
            await ask(GateKey(tenant, False), policy)
    slow.go.release()
    slow.go.release()
    await slow.until("acme", "acme", "globex")
    async with ended(slow, *flood, other, *invented):
        pass


async def test_a_flood_of_one_host_keeps_no_other_host_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts take turns at the callout; one that waits too long is not answered, so that it reconnects."""
    limits = Limits(at_once=4, of_tenant=2, of_client=2, waiting=4, waiting_of_tenant=2, waiting_of_client=2)
    monkeypatch.setattr(callout_module, "LIMITS", limits)
    nobody = cast("Any", None)
    monkeypatch.setattr(nkeys, "from_seed", lambda _seed: SimpleNamespace(public_key=b"A"))
    callout, slow = Callout(nobody, nobody, nobody, "seed"), Slow()

    async def admit(_message: Any, asked: Any) -> None:
        await slow(asked.client_info.host)

    monkeypatch.setattr(callout, "_admit", admit)

    def connects(host: str) -> asyncio.Task[None]:
        asked = cast("Any", SimpleNamespace(client_info=SimpleNamespace(host=host)))
        return asyncio.create_task(callout._answer_in_turn(nobody, asked))

    flood = [connects("192.0.2.1") for _ in range(5)]
    await slow.until("192.0.2.1", "192.0.2.1")
    other = connects("192.0.2.2")
    await slow.until("192.0.2.1", "192.0.2.1", "192.0.2.2")
    monkeypatch.setattr(callout_module, "ANSWER_WITHIN_SECONDS", 0.0)
    async with ended(slow, *flood, other):
        pass
    assert len(slow.began) == 3


async def test_waiting_for_a_count_holds_no_turn_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client at its bound does not delay other clients of the same host."""
    limits = Limits(at_once=4, of_tenant=1, of_client=1, waiting=4, waiting_of_tenant=2, waiting_of_client=2)
    monkeypatch.setattr(callout_module, "LIMITS", limits)
    monkeypatch.setattr(nkeys, "from_seed", lambda _seed: SimpleNamespace(public_key=b"A"))
    slow, nobody = Slow(), cast("Any", None)

    async def admit(_message: Any, _asked: Any) -> Any:
        return SimpleNamespace(tenant="acme", counted="web")

    async def takes_later(_tenant: str, counted: str) -> bool:
        await slow(counted)
        return False

    async def refuse(*_: Any) -> None:
        pass

    callout = Callout(
        nobody, nobody, cast("Any", SimpleNamespace(try_take=lambda *_: False, try_take_later=takes_later)), "seed"
    )
    monkeypatch.setattr(callout, "_admit", admit)
    monkeypatch.setattr(callout, "_refuse", refuse)
    asked = cast("Any", SimpleNamespace(client_info=SimpleNamespace(host="192.0.2.1"), connect_opts=nobody))
    two = [asyncio.create_task(callout._answer_in_turn(nobody, asked)) for _ in range(2)]
    await slow.until("web", "web")
    async with ended(slow, *two):
        pass
