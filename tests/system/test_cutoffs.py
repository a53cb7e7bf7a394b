"""Cut-offs: effective on every replica when acknowledged, complete even if processes die (CONTRACT §5, ADR 0004)."""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from nats.errors import Error as NatsError

from events.aggregates.aggregate_names import STREAM
from tests.paused import paused
from tests.system.service import PATIENCE_SECONDS, Caller, Service
from tests.system.workspace import DEVICE, EXCHANGE, Workspace, poll, swap

FAMILIES = 2000
SHARED: dict[str, Any] = {"grant_types": ["refresh_token", "client_credentials"], "scope": "read offline_access"}


class Tenant(Workspace):
    """A tenant with the client `web`, which is connected."""

    web: Caller

    async def put(self, client_id: str = "web", **settings: Any) -> None:
        """Register a client that may issue, and refresh or act for itself."""
        await self.register(client_id, **SHARED | settings)

    async def issue(self, sub: str = "alice", seconds: float = 10, **parameters: Any) -> dict[str, Any]:
        """Tokens of a new family, or the error."""
        return await self.web.ask("issue", {"sub": sub, "scope": "read offline_access"} | parameters, seconds=seconds)

    async def living(self, **filters: Any) -> list[dict[str, Any]]:
        """The families that live now."""
        question: dict[str, Any] = {"status": "live", "min_seq": await self.sequence(), "limit": 1000} | filters
        items: list[dict[str, Any]] = (await self.audit("families", **question))["items"]
        return items

    async def is_dead(self, tokens: dict[str, Any]) -> bool:
        """Whether no token is active, and the refresh token is refused."""
        active = [await self.web.active(tokens[kind]) for kind in ("access_token", "refresh_token")]
        return not any(active) and (await self.web.refresh(tokens["refresh_token"])).get("error") == "invalid_grant"


@pytest.fixture
async def tenant(workspace: Workspace) -> AsyncIterator[Tenant]:
    """New, on two replicas, with another client `other`."""
    tenant = Tenant(workspace.service, workspace.name, workspace.operator, workspace.auditor)
    for client_id in ("web", "other"):
        await tenant.put(client_id)
    async with tenant.client("web") as tenant.web:
        yield tenant


ANSWERS = {None: "before", "invalid_grant": "refused", "temporarily_unavailable": "not now"}
"""A broker that gets no core for a second does not answer in time, and then nobody is promised more (CONTRACT §2)."""


async def test_a_block_under_load(tenant: Tenant) -> None:
    """Two thousand families and fifty refreshes a second: after the acknowledgement nothing succeeds any more."""
    tokens = await _families(tenant, FAMILIES)
    acknowledged = asyncio.Event()
    outcomes: dict[str, int] = {"before": 0, "refused": 0, "not now": 0}

    async def refresh(number: int) -> None:
        began_after = acknowledged.is_set()
        answer = await tenant.web.refresh(tokens[number]["refresh_token"])
        outcome = ANSWERS.get(answer.get("error"))
        assert outcome is not None, answer
        assert not (began_after and outcome == "before"), "a success that began after the acknowledgement"
        outcomes[outcome] += 1
        tokens[number] = tokens[number] if "error" in answer else answer

    async def load() -> None:
        loop, due = asyncio.get_running_loop(), time.monotonic()
        under_way = []
        order = random.sample(range(FAMILIES), FAMILIES)
        after = 50
        while after:
            under_way.append(loop.create_task(refresh(order.pop())))
            after -= acknowledged.is_set()
            due += 0.02
            await asyncio.sleep(max(due - time.monotonic(), 0))  # fifty a second
        await asyncio.gather(*under_way)

    async def block() -> float:
        while not outcomes["before"]:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        answer = await tenant.order("subject.block", sub="alice")
        took = time.monotonic() - started
        acknowledged.set()
        assert answer["revoked_families"] == FAMILIES, answer
        return took

    _, took = await asyncio.gather(load(), block())
    print(f"blocked {FAMILIES} families in {took:.2f} s ({outcomes})")
    assert outcomes["refused"]
    assert not await tenant.living(sub="alice")
    assert not any(await asyncio.gather(*(tenant.web.active(token["access_token"]) for token in tokens[::20])))


async def test_a_replica_killed_half_way(service: Service, tenant: Tenant) -> None:
    """Kill -9 of each replica in turn while families end: the order stands and is completed, and counts right."""
    served, replicas = service.served(), service.pids("heirloom.replica")
    for number, (sub, victim) in enumerate(zip(("alice", "bob"), replicas, strict=True), 1):
        await _families(tenant, 500, sub)
        ordered = asyncio.create_task(tenant.order("subject.block", sub=sub))
        while not (await tenant.audit("revocations", sub=sub, limit=1))["items"]:
            pass
        os.kill(victim, signal.SIGKILL)
        ordered.cancel()  # nobody may be there to answer it
        answer = await _completed(tenant, sub)
        assert answer["revoked_families"] == 500
        assert not await tenant.living(sub=sub)
        # as many as there were: until the broker has noticed its end, a dying replica is still handed requests
        await _until_served(service, served + number)


async def _until_served(service: Service, times: int) -> None:
    await _until(lambda: service.served() == times)


async def _completed(tenant: Tenant, sub: str) -> dict[str, Any]:
    """Repeat the order until a replica lives long enough to answer it."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(NatsError):
                return await tenant.operator.succeed(f"admin.{tenant.name}.subject.block", {"sub": sub}, seconds=2)


async def _families(tenant: Tenant, count: int, sub: str = "alice") -> list[dict[str, Any]]:
    made = []
    for _ in range(0, count, 100):
        made += await asyncio.gather(*(tenant.issue(sub) for _ in range(100)))
    assert not [answer for answer in made if "error" in answer]
    return made


async def test_issuing_races_a_block(tenant: Tenant) -> None:
    """Tokens issued before the block are dead, and none are issued after it, on either replica."""
    for number in range(15):
        sub = f"racer{number}"
        before, blocked, after = await asyncio.gather(
            asyncio.gather(*(tenant.issue(sub) for _ in range(8))),
            tenant.order("subject.block", sub=sub),
            asyncio.gather(*(tenant.issue(sub) for _ in range(8))),
        )
        issued = [answer for answer in (*before, *after) if "error" not in answer]
        assert {answer["error"] for answer in (*before, *after) if "error" in answer} <= {"invalid_grant"}
        assert blocked["revoked_families"] == len(issued)
        assert not await tenant.living(sub=sub)
        assert all([await tenant.is_dead(tokens) for tokens in issued[:3]])
        later = await asyncio.gather(*(tenant.issue(sub) for _ in range(4)))
        assert {answer.get("error") for answer in later} == {"invalid_grant"}


async def test_unblocked(tenant: Tenant) -> None:
    """Old families stay dead, later ones live; repeating either command writes nothing."""
    old = await tenant.issue()
    blocked = await tenant.order("subject.block", sub="alice", reason="a lost phone")
    assert blocked["revoked_families"] == 1
    assert await tenant.order("subject.block", sub="alice") == blocked
    unblocked = await tenant.order("subject.unblock", sub="alice")
    assert unblocked["seq"] > blocked["seq"] and unblocked["revoked_families"] == 0
    assert await tenant.order("subject.unblock", sub="alice") == unblocked
    new = await tenant.issue()
    assert await tenant.is_dead(old) and not await tenant.is_dead(new)
    (revocation,) = (await tenant.audit("revocations", sub="alice"))["items"]
    assert revocation["reason"] == "subject_blocked" and revocation["actor"] == "operator"
    assert revocation["cause"] == f"SubjectBlocked at sequence {blocked['seq']}"


async def test_revoked_once(tenant: Tenant) -> None:
    """The person's families end, later ones live; a repetition writes nothing where no family lives."""
    old, others = await tenant.issue(), await tenant.issue("bob")
    revoked = await tenant.order("subject.revoke", sub="alice")
    assert revoked["revoked_families"] == 1
    assert await tenant.order("subject.revoke", sub="alice") == revoked
    new = await tenant.issue()
    assert await tenant.is_dead(old) and not await tenant.is_dead(new) and not await tenant.is_dead(others)
    again = await tenant.order("subject.revoke", sub="alice")
    assert again["seq"] > revoked["seq"] and again["revoked_families"] == 1
    assert await tenant.is_dead(new)


async def test_consent_withdrawn(service: Service, tenant: Tenant) -> None:
    """One client's families of one person end; the person's other client and other people keep theirs."""
    async with tenant.client("other") as other:
        mine, bobs = await tenant.issue(), await tenant.issue("bob")
        others = await other.issue(scope="read offline_access")
        withdrawn = await tenant.order("consent.revoke", sub="alice", client_id="web")
        assert withdrawn["revoked_families"] == 1
        assert await tenant.order("consent.revoke", sub="alice", client_id="web") == withdrawn
        assert await tenant.is_dead(mine) and not await tenant.is_dead(bobs)
        assert "error" not in await other.refresh(others["refresh_token"])
        assert "error" not in await tenant.issue()
        elsewhere = await tenant.order("consent.revoke", sub="alice", client_id="other")
        assert elsewhere["seq"] > withdrawn["seq"] and elsewhere["revoked_families"] == 1


async def test_a_client_disabled_and_enabled(service: Service, tenant: Tenant) -> None:
    """It is refused at once, its families and its own tokens are dead; enabled again, it starts afresh.

    It then has another password, so the ended connection cannot reconnect with the old one.
    """
    tokens = await tenant.issue()
    own = await tenant.web.ask("token", {"grant_type": "client_credentials"})
    begun = (tenant.issue(f"person{number}", 3) for number in range(60))
    racing = asyncio.gather(*begun, return_exceptions=True)
    disabled = await tenant.order("client.disable", client_id="web", reason="leaked")
    await _until(lambda: not tenant.web.connection.is_connected)
    with pytest.raises(NatsError):
        await tenant.issue()
    # who is disconnected may not hear of what he was given
    issued = [answer for answer in await racing if isinstance(answer, dict) and "error" not in answer]
    assert len(issued) + 2 <= disabled["revoked_families"] <= 60 + 2
    assert not await tenant.living(client_id="web")
    assert await tenant.order("client.disable", client_id="web") == disabled
    enabled = await tenant.order("client.enable", client_id="web")
    assert enabled["seq"] > disabled["seq"] and enabled["revoked_families"] == 0
    assert await tenant.order("client.enable", client_id="web") == enabled
    async with service.client("web", tenant.name, await service.url("web", tenant.name)) as web:
        assert not tenant.web.connection.is_connected
        tenant.web = web
        assert await tenant.is_dead(tokens) and not await tenant.web.active(own["access_token"])
        anew = await asyncio.gather(*(tenant.issue() for _ in range(20)))
        assert all("error" not in answer for answer in anew)
        assert all([await tenant.web.active(tokens["access_token"]) for tokens in anew])
        assert len(await tenant.living(client_id="web")) == 20


async def test_a_device_approved_for_a_blocked_person(service: Service, tenant: Tenant) -> None:
    """It gets no tokens, although the block could not know the device's family, which began without a person."""
    await tenant.put("tv", grant_types=[DEVICE], token_endpoint_auth_method="none")
    await tenant.put("login", may_authorize=True)
    async with tenant.client("tv") as tv, tenant.client("login") as login:
        started = await tv.ask("device_authorization", {"scope": "read"})
        await tenant.order("subject.block", sub="alice")
        approval = {"user_code": started["user_code"], "sub": "alice", "approved": True}
        assert (await login.ask("authorize", approval))["error"] == "invalid_grant"
        await tenant.order("subject.unblock", sub="alice")
        for _ in range(2):  # dead for good, whoever approves it now
            answer = await tv.ask("token", poll(started["device_code"]))
            assert answer["error"] == "invalid_grant"
            assert (await login.ask("authorize", approval))["error"] == "invalid_grant"


async def test_a_device_of_a_client_that_was_disabled(service: Service, tenant: Tenant) -> None:
    """RFC 8628 §3.3: its earlier device codes are dead for good, also after it is enabled, or without the grant.

    A waiting device has no family in the log that the disabling could end.
    """
    await tenant.put("tv", grant_types=[DEVICE], token_endpoint_auth_method="none")
    await tenant.put("login", may_authorize=True)
    async with tenant.client("tv") as tv, tenant.client("login") as login:
        approvals = [
            {"user_code": (await tv.ask("device_authorization", {"scope": "read"}))["user_code"], "approved": True}
            for _ in range(3)
        ]
        await tenant.put("tv", grant_types=["refresh_token"], token_endpoint_auth_method="none")
        assert (await login.ask("authorize", approvals[0] | {"sub": "a"}))["error"] == "invalid_grant"
        await tenant.put("tv", grant_types=[DEVICE], token_endpoint_auth_method="none")
        await tenant.order("client.disable", client_id="tv")
        assert (await login.ask("authorize", approvals[1] | {"sub": "b"}))["error"] == "invalid_grant"
        await tenant.order("client.enable", client_id="tv")
        assert (await login.ask("authorize", approvals[2] | {"sub": "c"}))["error"] == "invalid_grant"


async def test_tokens_that_a_disabled_client_has_exchanged(service: Service, tenant: Tenant) -> None:
    """RFC 8693: its tokens of another client's living family are dead for good; later ones are valid."""
    await tenant.put("other", grant_types=[EXCHANGE], may_exchange=["web"])
    await tenant.put("api", may_introspect=True)
    tokens = await tenant.issue()
    async with tenant.client("other") as other, tenant.client("api") as api:
        request = swap(tokens["access_token"])
        exchanged = (await other.ask("token", request))["access_token"]
        assert await api.active(exchanged)
        assert (await tenant.order("client.disable", client_id="other"))["revoked_families"] == 0
        assert not await api.active(exchanged) and await api.active(tokens["access_token"])
        await tenant.order("client.enable", client_id="other")
        assert not await api.active(exchanged)
        anew = await service.url("other", tenant.name)
        async with service.client("other", tenant.name, anew) as again:
            assert await api.active((await again.ask("token", request))["access_token"])


@pytest.mark.parametrize("form", ["jwt", "opaque"])
async def test_tokens_passed_on_by_a_disabled_client(service: Service, tenant: Tenant, form: str) -> None:
    """RFC 8693 §4.1: every client in `act` counts, not only the holder: tokens passed on by a thief are dead too."""
    for name, source in (("first", "web"), ("second", "first")):
        await tenant.put(name, grant_types=[EXCHANGE], may_exchange=[source], access_token_format=form)
    await tenant.put("api", may_introspect=True)
    token = (await tenant.issue())["access_token"]
    async with AsyncExitStack() as stack:
        first, second, api = [
            await stack.enter_async_context(tenant.client(name)) for name in ("first", "second", "api")
        ]
        for holder in (first, second):
            token = (await holder.ask("token", swap(token)))["access_token"]
        assert await api.active(token)
        for change in ("client.disable", "client.enable"):
            await tenant.order(change, client_id="first")
            assert not await api.active(token)
            assert (await second.ask("token", swap(token)))["error"] == "invalid_request"


async def test_authentication_required_to_be_stronger(tenant: Tenant) -> None:
    """`required_acr` of the tenant or the client ends families of weaker logins; the others live."""
    weak, middling, strong = [await tenant.issue(acr=acr) for acr in ("bronze", "silver", "gold")]
    own = await tenant.web.ask("token", {"grant_type": "client_credentials"})
    await tenant.settings(required_acr=["silver", "gold"])
    assert not await tenant.web.active(weak["access_token"])
    assert await tenant.is_dead(weak) and await tenant.web.active(middling["access_token"])
    await tenant.put(required_acr=["gold"])
    assert await tenant.is_dead(middling) and not await tenant.is_dead(strong)
    assert await tenant.web.active(own["access_token"])
    found = (await tenant.audit("revocations", reason="policy_changed", min_seq=await tenant.sequence()))["items"]
    assert [item["cause"].split()[0] for item in found] == ["ClientConfigured", "TenantConfigured"]


async def test_settings_hold_on_both_replicas_when_acknowledged(tenant: Tenant) -> None:
    """Twenty requests right after each change see it, whichever replica answers them."""
    for seconds in range(100, 110):
        await tenant.put(access_token_ttl=seconds)
        answers = await asyncio.gather(*(tenant.issue() for _ in range(20)))
        assert {answer["expires_in"] for answer in answers} == {seconds}


async def test_orders_about_unknown_names(tenant: Tenant) -> None:
    """A person may be cut off before having a family; an unknown client or tenant is `invalid_request`."""
    before = await tenant.sequence()
    assert await tenant.order("subject.unblock", sub="nobody") == {"seq": 0, "revoked_families": 0}
    for what, request in (
        ("client.disable", {"client_id": "nobody"}),
        ("client.enable", {"client_id": "no.body"}),
        ("client.disable", {}),
        ("consent.revoke", {"sub": "alice", "client_id": "nobody"}),
        ("consent.revoke", {"client_id": "web"}),
        ("subject.block", {}),
        ("subject.block", {"sub": 5}),
        ("subject.block", {"sub": "x" * 256}),
        ("subject.revoke", {"sub": "alice", "reason": "x" * 501}),
    ):
        assert (await tenant.refused(what, **request))["error"] == "invalid_request", (what, request)
    nowhere = await tenant.operator.ask("admin.nowhere.subject.block", {"sub": "alice"})
    assert nowhere["error"] == "invalid_request"
    twice = await tenant.operator.ask(f"admin.{tenant.name}.subject.block", b'{"sub":"alice","sub":"bob"}')
    assert twice["error"] == "invalid_request"
    assert await tenant.sequence() == before
    blocked = await tenant.order("subject.block", sub="nobody")
    assert blocked["seq"] > before and blocked["revoked_families"] == 0
    assert (await tenant.issue("nobody"))["error"] == "invalid_grant"


async def test_a_replica_that_was_stopped_meanwhile(service: Service, tenant: Tenant) -> None:
    """A replica whose lease ended while it was stopped does not decide on what it remembers of clients and tenants.

    Meanwhile the broker has deleted the consumer that delivered the registry to it.
    """
    await tenant.issue()
    sleeper = service.pids("heirloom.replica")[0]
    async with tenant.client("other") as other:
        with paused(sleeper):
            await _no_reader(service)
            # half of these lie with the sleeper, and so may half of the orders
            _, orders = await _acknowledged(tenant, "tenant.put", issuer=tenant.issuer, access_token_ttl=77)
            _, more = await _acknowledged(tenant, "client.disable", client_id="web")
            late = [asyncio.create_task(tenant.issue()) for _ in range(12)]
            request = {"sub": "alice", "scope": "read"}
            meanwhile = [asyncio.create_task(other.ask("issue", request)) for _ in range(12)]
            await other.connection.flush()
            with contextlib.suppress(NatsError):  # the broker may have ended the connection by now
                await tenant.web.connection.flush()
        answers = await asyncio.gather(*meanwhile)
    assert {answer["expires_in"] for answer in answers} == {77}
    for answer in await asyncio.gather(*late, return_exceptions=True):
        assert isinstance(answer, NatsError) or answer.get("error") == "invalid_client"  # type: ignore[union-attr]
    await asyncio.gather(*orders, *more)
    assert not await tenant.living(client_id="web")
    assert len(await tenant.living(client_id="web", status=None)) == 1, "nothing has begun that had to be ended"


async def _acknowledged(
    tenant: Tenant, what: str, **request: Any
) -> tuple[dict[str, Any], set[asyncio.Task[dict[str, Any]]]]:
    """The first answer to an order that is sent several times, and the tasks that wait for the others."""
    orders = [asyncio.create_task(tenant.order(what, **request)) for _ in range(12)]
    done, pending = await asyncio.wait(orders, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    return done.pop().result(), pending


async def _no_reader(service: Service) -> None:
    """Delete the consumers that read the log in order, as the broker does after half a minute; they are made again."""
    backup = await service.own("backup")
    listed = await backup.request(f"$JS.API.CONSUMER.NAMES.{STREAM}", b"")
    for name in json.loads(listed.data)["consumers"]:
        if name.startswith("reader-"):
            await backup.request(f"$JS.API.CONSUMER.DELETE.{STREAM}.{name}", b"")
    await backup.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)
