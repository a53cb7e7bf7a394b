"""What a token may do is what its client may today; what is told of it, too. Through the running service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from tests.system.service import Caller, Service
from tests.system.workspace import (
    DEVICE,
    EXCHANGE,
    REDIRECT,
    SCOPE,
    Workspace,
    claims,
    code_for,
    device_code,
    made,
    poll,
    redemption,
    swap,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

API, OTHER_API = "https://api.example", "https://other.example"
INACTIVE = {"active": False}
ALL = ["refresh_token", "authorization_code", DEVICE, "client_credentials"]


class World:
    """A tenant with a client of each sort, connected once for all tests."""

    workspace: Workspace
    clients: dict[str, Caller]

    def __getitem__(self, client_id: str) -> Caller:
        return self.clients[client_id]


CLIENTS: dict[str, dict[str, Any]] = {
    "web": {"grant_types": ALL, "redirect_uris": [REDIRECT], "audiences": [API]},
    "login": {"may_authorize": True},
    "svc": {"grant_types": [EXCHANGE], "scope": "read"},
    "api": {"grant_types": [EXCHANGE], "audiences": [API], "may_introspect": True},
    "named": {"grant_types": [EXCHANGE], "may_exchange": ["web"]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(service: Service) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        world = World()
        world.workspace = await stack.enter_async_context(made(service))
        for client_id, settings in CLIENTS.items():
            await world.workspace.register(client_id, **settings)
        world.clients = {name: await stack.enter_async_context(world.workspace.client(name)) for name in CLIENTS}
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def web(world: World) -> AsyncIterator[Caller]:
    """The client `web`, whose registration is put back afterwards."""
    yield world["web"]
    await world.workspace.register("web", **CLIENTS["web"])


async def _tokens(world: World, grant: str, resource: Any) -> dict[str, Any]:
    web, login = world["web"], world["login"]
    asked = {} if resource is None else {"resource": resource}
    match grant:
        case "issue":
            return await web.ask("issue", {"sub": "alice", "scope": SCOPE} | asked)
        case "client_credentials":
            return await web.ask("token", {"grant_type": grant} | asked)
        case "authorization_code":
            request = {"client_id": "web", "sub": "alice", "redirect_uri": REDIRECT, "code_challenge_method": "S256"}
            return await login.ask("authorize", request | {"code_challenge": "v" * 43} | asked)
        case _:
            return await web.ask("device_authorization", asked)


@pytest.mark.parametrize("grant", ["issue", "client_credentials", "authorization_code", "device_code"])
async def test_no_grant_names_a_resource_the_client_may_have_no_token_for(world: World, grant: str) -> None:
    """RFC 8707 §2: `invalid_target` in every grant, and nothing is written; the issuer and what is set are taken."""
    before = await world.workspace.sequence()
    for wrong in (OTHER_API, [API, OTHER_API], f"{API}/"):
        assert (await _tokens(world, grant, wrong))["error"] == "invalid_target"
    assert await world.workspace.sequence() == before
    for right in (None, API, world.workspace.issuer, [world.workspace.issuer, API]):
        assert "error" not in await _tokens(world, grant, right)


async def test_a_service_exchanges_only_what_is_its_business(world: World) -> None:
    """RFC 8693 §2.1, §5: `svc` took any token for itself, with any scope, for anybody."""
    mine = (await world["web"].issue(scope="read write offline_access"))["access_token"]
    for_api = (await _tokens(world, "issue", API))["access_token"]
    before = await world.workspace.sequence()
    for client_id, token in (("svc", mine), ("svc", for_api), ("api", mine)):
        assert (await world[client_id].ask("token", swap(token)))["error"] == "invalid_request"
    for changes, error in (
        ({"resource": OTHER_API}, "invalid_target"),
        ({"audience": "bank"}, "invalid_target"),
        ({"scope": "admin"}, "invalid_scope"),
    ):
        assert (await world["api"].ask("token", swap(for_api, **changes)))["error"] == error
    assert await world.workspace.sequence() == before
    by_audience = await world["api"].ask("token", swap(for_api, scope="read"))
    by_name = await world["named"].ask("token", swap(mine))
    assert (by_audience["scope"], by_name["scope"]) == ("read", "read write offline_access")
    assert claims(by_name["access_token"])["aud"] == "named"


async def test_a_scope_taken_from_a_client_is_in_no_new_token_and_in_no_answer(world: World, web: Caller) -> None:
    """RFC 7662 §2.2, RFC 7591 §2: what was granted before is worth what the client may today; it can come back."""
    tokens = await web.issue(scope="read write offline_access")
    code = redemption(await code_for(world["login"], "web"))
    started = poll(await device_code(web, world["login"]))
    exchanged = (await world["named"].ask("token", swap(tokens["access_token"])))["access_token"]
    await world.workspace.register("web", **CLIENTS["web"] | {"scope": "read offline_access"})
    for token in (tokens["access_token"], tokens["refresh_token"], exchanged):
        told = await world["api"].ask("introspect", {"token": token})
        assert (told["active"], told["scope"]) == (True, "read offline_access")
    assert (await web.refresh(tokens["refresh_token"], scope="write"))["error"] == "invalid_scope"
    second = await web.refresh(tokens["refresh_token"])
    assert second["scope"] == "read offline_access" == claims(second["access_token"])["scope"]
    for request in (code, started):
        answer = await web.ask("token", request)
        assert answer["scope"] == "read offline_access" and "id_token" not in answer
    assert (await world["named"].ask("token", swap(tokens["access_token"])))["scope"] == "read offline_access"
    await world.workspace.register("web", **CLIENTS["web"])
    assert (await web.refresh(second["refresh_token"]))["scope"] == "read write offline_access"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "read"}, "invalid_grant"),
        ({"scope": "admin"}, "invalid_grant"),
        ({"scope": ""}, "invalid_grant"),
        ({"grant_types": ["client_credentials"]}, "unauthorized_client"),
        ({"audiences": []}, "invalid_target"),
    ],
)
async def test_active_means_that_it_would_be_accepted_now(
    world: World, web: Caller, changes: dict[str, Any], error: str
) -> None:
    """RFC 7662 §2.2, RFC 6749 §6: what a refresh would refuse is not active; the family lives, and so may it again."""
    token = (await _tokens(world, "issue", API))["refresh_token"]
    await world.workspace.register("web", **CLIENTS["web"] | changes)
    before = await world.workspace.sequence()
    for caller in (web, world["api"]):
        assert await caller.ask("introspect", {"token": token}) == INACTIVE
    assert (await web.refresh(token))["error"] == error
    assert await world.workspace.sequence() == before
    await world.workspace.register("web", **CLIENTS["web"])
    assert await web.active(token)
    assert "error" not in await web.refresh(token)


async def test_a_person_and_a_client_of_one_name_are_told_apart(world: World, web: Caller) -> None:
    """RFC 9700 §4.15: the claim and the introspection member `sub_type`, also of what was exchanged."""
    own = (await web.ask("token", {"grant_type": "client_credentials"}))["access_token"]
    persons = (await web.issue("web"))["access_token"]
    assert claims(own)["sub"] == claims(persons)["sub"] == "web"
    assert claims(own)["sub_type"] == "client" and "sub_type" not in claims(persons)
    exchanged = (await world["named"].ask("token", swap(own)))["access_token"]
    assert claims(exchanged)["sub_type"] == "client"
    described = [await world["api"].ask("introspect", {"token": token}) for token in (own, persons, exchanged)]
    assert [told.get("sub_type") for told in described] == ["client", None, "client"]


@pytest.mark.parametrize("form", ["jwt", "opaque"])
async def test_a_target_taken_from_a_client_is_in_no_answer(world: World, web: Caller, form: str) -> None:
    """RFC 8707 §2.2, RFC 7662 §2.2: of `aud` what the holder's tokens may be for today; it can come back."""
    settings = CLIENTS["web"] | {"access_token_format": form}
    await world.workspace.register("web", **settings | {"audiences": [API, OTHER_API]})
    both, other = [
        (await web.ask("issue", {"sub": "alice", "scope": "read", "resource": resource}))["access_token"]
        for resource in ([API, OTHER_API], OTHER_API)
    ]
    exchanged = (await world["named"].ask("token", swap(other)))["access_token"]
    assert (await world["api"].ask("introspect", {"token": both}))["aud"] == [API, OTHER_API]
    await world.workspace.register("web", **settings)
    assert (await world["api"].ask("introspect", {"token": both}))["aud"] == API
    assert await world["api"].ask("introspect", {"token": other}) == INACTIVE
    assert (await world["named"].ask("token", swap(other)))["error"] == "invalid_request"
    assert await world["api"].active(exchanged), "it is for its own holder"
    await world.workspace.register("web", **settings | {"audiences": [OTHER_API]})
    assert (await world["api"].ask("token", swap(both)))["error"] == "invalid_request", "it is for another now"
    assert await world["api"].active(other)


@pytest.mark.parametrize("what", ["subject.block", "subject.revoke", "consent.revoke"])
async def test_a_persons_cut_off_leaves_a_client_of_that_name_alone(world: World, web: Caller, what: str) -> None:
    """RFC 9700 §4.15: who was blocked as `web` is a person; the client's own tokens live, and it gets new ones."""
    more = {"client_id": "web"} if what.startswith("consent") else {}
    own = (await web.ask("token", {"grant_type": "client_credentials"}))["access_token"]
    persons = (await web.issue("web"))["access_token"]
    done = await world.workspace.order(what, sub="web", **more)
    assert done["revoked_families"] >= 1
    assert [await web.active(token) for token in (own, persons)] == [True, False]
    again = await web.ask("token", {"grant_type": "client_credentials"})
    assert await web.active(again["access_token"])
    if what == "subject.block":
        assert (await web.ask("issue", {"sub": "web", "scope": "read"}))["error"] == "invalid_grant"
        await world.workspace.order("subject.unblock", sub="web")
    else:
        assert (await world.workspace.order(what, sub="web", **more))["seq"] == done["seq"], "nothing to do again"


@pytest.mark.parametrize("endpoint", ["token", "issue", "introspect", "revoke", "device_authorization"])
async def test_a_client_id_in_the_body_is_the_callers(world: World, web: Caller, endpoint: str) -> None:
    """RFC 6749 §3.2.1: another's is `invalid_client`, on the bus as at the edge; its own changes nothing."""
    token = (await web.issue())["refresh_token"]
    request: dict[str, dict[str, Any]] = {
        "token": {"grant_type": "refresh_token", "refresh_token": token},
        "issue": {"sub": "alice", "scope": "read"},
        "introspect": {"token": token},
        "revoke": {"token": token},
        "device_authorization": {"scope": "read"},
    }
    before = await world.workspace.sequence()
    assert (await web.ask(endpoint, request[endpoint] | {"client_id": "svc"}))["error"] == "invalid_client"
    assert await world.workspace.sequence() == before
    assert "error" not in await web.ask(endpoint, request[endpoint] | {"client_id": "web"})


async def test_a_retry_may_leave_the_client_id_out(web: Caller) -> None:
    """CONTRACT §2: it is no part of what is asked."""
    token = (await web.issue())["refresh_token"]
    first, second = await web.refresh(token, key="k", client_id="web"), await web.refresh(token, key="k")
    assert first["refresh_token"] == second["refresh_token"]


async def test_a_clients_own_token_has_nothing_of_a_persons(world: World, web: Caller) -> None:
    """RFC 6749 §4.4: no `openid`, no `offline_access` unasked; asked for, still no ID token, in the log neither."""
    unasked = await web.ask("token", {"grant_type": "client_credentials"})
    assert unasked["scope"] == "profile read write"
    asked = await web.ask("token", {"grant_type": "client_credentials", "scope": "openid read"})
    assert asked["scope"] == "openid read" and {"id_token", "refresh_token"}.isdisjoint(asked)
    assert await world.workspace.timeline(claims(asked["access_token"])["sid"]) == ["GrantAuthorized", "TokenIssued"]


async def test_an_issuer_is_one_tenants(world: World, service: Service) -> None:
    """RFC 8414 §2: also of two that ask for it at once, on whichever replica; the default is nobody else's either."""
    async with made(service) as other:
        answer = await other.refused("tenant.put", issuer=world.workspace.issuer)
        assert "another tenant" in answer["error_description"]
        await other.settings(access_token_ttl=60)
        for number in range(4):
            shared = f"https://shared{number}.example"
            racing = (
                tenant._operator.ask(f"admin.{tenant.name}.tenant.put", {"issuer": shared}, seconds=30)
                for tenant in (world.workspace, other)
            )
            answers = await asyncio.gather(*racing)
            assert sorted("error" in answer for answer in answers) == [False, True], answers
            for tenant in (world.workspace, other):
                await tenant.settings()


async def test_access_denied_is_a_bad_request(world: World, web: Caller) -> None:
    """RFC 6749 §5.2: 400 at the token endpoint, as every error but `invalid_client`."""
    started = await web.ask("device_authorization", {})
    answer = {"user_code": started["user_code"], "sub": "alice", "approved": False}
    assert await world["login"].ask("authorize", answer) == {}
    body = b'{"grant_type": "%s", "device_code": "%s"}' % (DEVICE.encode(), started["device_code"].encode())
    reply = await web.connection.request(f"oauth.{world.workspace.name}.client.web.token", body, timeout=5)
    assert reply.headers is not None
    assert (reply.headers["Nats-Service-Error"], reply.headers["Nats-Service-Error-Code"]) == ("access_denied", "400")


@pytest.mark.parametrize("form", ["jwt", "opaque"])
async def test_an_exchanged_token_dies_with_the_one_it_came_of(world: World, web: Caller, form: str) -> None:
    """RFC 7009 §2.1: revoking the subject token ends what was exchanged from it, and from that; its siblings live."""
    for client_id in ("named", "api"):
        settings = CLIENTS[client_id] | {"access_token_format": form, "may_exchange": ["web", "named"]}
        await world.workspace.register(client_id, **settings)
    first = await web.issue()
    second = await web.refresh(first["refresh_token"])
    once = (await world["named"].ask("token", swap(first["access_token"])))["access_token"]
    twice = (await world["api"].ask("token", swap(once)))["access_token"]
    sibling = (await world["named"].ask("token", swap(second["access_token"])))["access_token"]
    assert [await world["api"].active(token) for token in (once, twice, sibling)] == [True, True, True]
    assert await web.ask("revoke", {"token": first["access_token"]}) == {}
    for token in (once, twice):
        assert await world["api"].ask("introspect", {"token": token}) == INACTIVE
        assert (await world["api"].ask("token", swap(token)))["error"] == "invalid_request"
        answer = await world.workspace.audit("token", token=token, min_seq=await world.workspace.sequence())
        assert (answer["valid"], answer["verdict"], answer["decided_by"]["type"]) == (False, "revoked", "TokenRevoked")
    assert await world["api"].active(sibling) and await web.active(second["access_token"])
    answer = await world.workspace.audit("token", token=sibling, min_seq=await world.workspace.sequence())
    assert answer["valid"]
    for client_id in ("named", "api"):
        await world.workspace.register(client_id, **CLIENTS[client_id])
