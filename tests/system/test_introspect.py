"""Introspection (RFC 7662): a token is active when it would be accepted now."""

import asyncio
from typing import Any

import pytest

from tests.system.workspace import (
    API,
    INACTIVE,
    OTHER_API,
    SCOPE,
    Clients,
    Workspace,
    claims,
    code_for,
    device_code,
    poll,
    redemption,
    swap,
)


async def test_an_inactive_token_is_described_as_that_alone(workspace: Workspace, clients: Clients) -> None:
    """RFC 7662 §2.2: revoked, rotated, expired, never issued, another client's: exactly `{"active": false}`."""
    app, other, orders = await clients.all("app", "other", "orders")
    await workspace.register("brief", access_token_ttl=1, refresh_token_ttl=1)
    async with workspace.client("brief") as brief:
        expired = await brief.issue()
    rotated, revoked, others = await app.issue(), await app.issue(), await other.issue()
    await app.refresh(rotated["refresh_token"])
    await app.ask("revoke", {"token": revoked["refresh_token"]})
    bad = [rotated["refresh_token"], "x", "a.b.c"]
    bad += [tokens[kind] for tokens in (revoked, others) for kind in ("access_token", "refresh_token")]
    assert [await app.ask("introspect", {"token": token}) for token in bad] == [INACTIVE] * len(bad)
    for kind in ("access_token", "refresh_token"):
        async with asyncio.timeout(5):
            while (answer := await orders.ask("introspect", {"token": expired[kind]}))["active"]:
                await asyncio.sleep(0.05)
        assert answer == INACTIVE


async def test_the_caller_authenticates(workspace: Workspace, clients: Clients) -> None:
    """RFC 7662 §2.1: at the edge neither no proof, a client's name alone nor a bearer token is enough."""
    app = await clients("app")
    await workspace.register("public", token_endpoint_auth_method="none", may_introspect=True)
    token = (await app.issue())["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    async with workspace.service.role("edge") as edge:
        for proof, headers in (({}, None), ({"client_id": "public"}, None), ({"client_id": "app"}, None), ({}, bearer)):
            request = {"token": token} | proof
            answer = await edge.ask(f"oauth.{workspace.name}.edge.introspect", request, headers=headers)
            assert answer["error"] == "invalid_client"


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
    workspace: Workspace, clients: Clients, changes: dict[str, Any], error: str
) -> None:
    """RFC 7662 §2.2: a refresh token that its client may not use now is inactive; its family lives on."""
    web, api = await clients.all("web", "api")
    token = (await web.ask("issue", {"sub": "alice", "scope": SCOPE, "resource": API}))["refresh_token"]
    await workspace.register("web", **changes)
    before = await workspace.sequence()
    for caller in (web, api):
        assert await caller.ask("introspect", {"token": token}) == INACTIVE
    assert (await web.refresh(token))["error"] == error
    assert await workspace.sequence() == before
    await workspace.register("web")
    assert await web.active(token)
    assert "error" not in await web.refresh(token)


async def test_a_scope_taken_from_a_client(workspace: Workspace, clients: Clients) -> None:
    """RFC 7662 §2.2, RFC 7591 §2: it is in no new token and in no answer, until the client has it again."""
    web, login, named, api = await clients.all("web", "login", "named", "api")
    tokens = await web.issue(scope="read write offline_access")
    code = redemption(await code_for(login, "web"))
    started = poll(await device_code(web, login))
    exchanged = (await named.ask("token", swap(tokens["access_token"])))["access_token"]
    await workspace.register("web", scope="read offline_access")
    for token in (tokens["access_token"], tokens["refresh_token"], exchanged):
        told = await api.ask("introspect", {"token": token})
        assert (told["active"], told["scope"]) == (True, "read offline_access")
    assert (await web.refresh(tokens["refresh_token"], scope="write"))["error"] == "invalid_scope"
    second = await web.refresh(tokens["refresh_token"])
    assert second["scope"] == "read offline_access" == claims(second["access_token"])["scope"]
    for request in (code, started):
        answer = await web.ask("token", request)
        assert answer["scope"] == "read offline_access" and "id_token" not in answer
    assert (await named.ask("token", swap(tokens["access_token"])))["scope"] == "read offline_access"
    await workspace.register("web")
    assert (await web.refresh(second["refresh_token"]))["scope"] == "read write offline_access"


@pytest.mark.parametrize("form", ["jwt", "opaque"])
async def test_a_resource_taken_from_a_client(workspace: Workspace, clients: Clients, form: str) -> None:
    """RFC 8707 §2.2, RFC 7662 §2.2: `aud` names only what the holder's tokens may be for today."""
    web, named, api = await clients.all("web", "named", "api")
    await workspace.register("web", access_token_format=form, audiences=[API, OTHER_API])
    both, other = [
        (await web.ask("issue", {"sub": "alice", "scope": "read", "resource": resource}))["access_token"]
        for resource in ([API, OTHER_API], OTHER_API)
    ]
    exchanged = (await named.ask("token", swap(other)))["access_token"]
    assert (await api.ask("introspect", {"token": both}))["aud"] == [API, OTHER_API]
    await workspace.register("web", access_token_format=form)
    assert (await api.ask("introspect", {"token": both}))["aud"] == API
    assert await api.ask("introspect", {"token": other}) == INACTIVE
    assert (await named.ask("token", swap(other)))["error"] == "invalid_request"
    assert await api.active(exchanged), "it is for its own holder"
    await workspace.register("web", access_token_format=form, audiences=[OTHER_API])
    assert (await api.ask("token", swap(both)))["error"] == "invalid_request", "it is for another now"
    assert await api.active(other)
