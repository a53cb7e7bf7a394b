"""The device authorization grant (RFC 8628)."""

import asyncio
import json
from collections import Counter

from tests.system.workspace import (
    DEVICE,
    SCOPE,
    Clients,
    Workspace,
    claims,
    code_for,
    device_code,
    poll,
)

TELEVISION = {"grant_types": [DEVICE, "refresh_token"], "scope": "read offline_access"}
RESOURCES = ["https://a.example", "https://b.example"]


async def test_a_device_is_approved(clients: Clients) -> None:
    """RFC 8628: pending, too fast, approved once with less than was requested; the tokens describe the approval."""
    login, tv = await clients("login"), await clients("tv", audiences=RESOURCES, **TELEVISION)
    started = await tv.ask("device_authorization", {"scope": "read offline_access", "resource": RESOURCES})
    assert {"device_code", "user_code", "verification_uri", "expires_in", "interval"} <= set(started)
    request = poll(started["device_code"])
    assert (await tv.ask("token", request))["error"] == "authorization_pending"
    assert (await tv.ask("token", request))["error"] in ("slow_down", "authorization_pending")
    answers = [(await tv.ask("token", request))["error"] for _ in range(4)]
    assert "slow_down" in answers
    typed = started["user_code"].lower().replace("-", " ")
    answer = {"user_code": typed, "sub": "alice", "approved": True, "acr": "mfa", "auth_time": 1_700_000_000}
    answer["resource"] = RESOURCES[1]
    assert await login.ask("authorize", answer) == {}
    tokens = await tv.ask("token", request, key="k")
    told = claims(tokens["access_token"])
    assert (told["acr"], told["auth_time"], told["aud"]) == ("mfa", 1_700_000_000, RESOURCES[1])
    assert (await tv.ask("token", request, key="k"))["refresh_token"] == tokens["refresh_token"]
    assert "access_token" in await tv.refresh(tokens["refresh_token"])


async def test_a_device_code_used_twice(workspace: Workspace, clients: Clients) -> None:
    """`invalid_grant`, and nothing ends: a device polls again after a lost answer (RFC 8628 §3.5)."""
    login, tv = await clients("login"), await clients("tv", **TELEVISION)
    request = poll(await device_code(tv, login))
    tokens = await tv.ask("token", request)
    before = await workspace.sequence()
    for _ in range(3):
        assert (await tv.ask("token", request))["error"] == "invalid_grant"
    assert await workspace.sequence() == before
    assert await tv.active(tokens["access_token"])


async def test_a_user_code_used_twice(workspace: Workspace, clients: Clients) -> None:
    """The second answer is `invalid_grant`, whatever it contains, and the first stands."""
    login, tv = await clients("login"), await clients("tv", **TELEVISION)
    started = await tv.ask("device_authorization", {})
    approval = {"user_code": started["user_code"], "sub": "alice", "approved": True}
    assert await login.ask("authorize", approval) == {}
    before = await workspace.sequence()
    for changes in ({}, {"approved": False}, {"sub": "mallory"}):
        assert (await login.ask("authorize", approval | changes))["error"] == "invalid_grant"
    assert await workspace.sequence() == before
    assert "access_token" in await tv.ask("token", poll(started["device_code"]))


async def test_a_device_is_denied(clients: Clients) -> None:
    """RFC 8628 §3.5 `access_denied`, with the status 400 (RFC 6749 §5.2); another client's poll discloses nothing."""
    login, tv, radio = await clients("login"), await clients("tv", **TELEVISION), await clients("radio", **TELEVISION)
    plain = await clients("plain")
    started = await tv.ask("device_authorization", {})
    request = poll(started["device_code"])
    assert (await plain.ask("token", request))["error"] == "unauthorized_client"
    assert (await plain.ask("device_authorization", {}))["error"] == "unauthorized_client"
    assert (await radio.ask("token", request))["error"] == "invalid_grant"
    assert await login.ask("authorize", {"user_code": started["user_code"], "sub": "alice", "approved": False}) == {}
    assert (await radio.ask("token", request))["error"] == "invalid_grant"
    reply = await tv.raw("token", request)
    assert reply.headers is not None and json.loads(reply.data)["error"] == "access_denied"
    assert (reply.headers["Nats-Service-Error"], reply.headers["Nats-Service-Error-Code"]) == ("access_denied", "400")


async def test_user_codes_are_not_found_by_guessing(clients: Clients) -> None:
    """RFC 8628 §5.1: after five wrong codes of a person no more are evaluated, right or wrong; other people's are."""
    login, tv = await clients("login"), await clients("tv", **TELEVISION)
    await clients("app")
    started = await tv.ask("device_authorization", {})
    request = poll(started["device_code"])
    tries = [{"user_code": f"BBBB-BBB{letter}", "sub": "mallory", "approved": letter != "C"} for letter in "BCDFGHJKLM"]
    answers = await asyncio.gather(*(login.ask("authorize", each) for each in tries))
    assert Counter(answer["error"] for answer in answers) == {"invalid_grant": 5, "slow_down": 5}
    right = {"user_code": started["user_code"], "sub": "mallory", "approved": True}
    for answer in (right, right | {"approved": False}, right | {"scope": "admin"}):
        assert (await login.ask("authorize", answer))["error"] == "slow_down"
    assert (await tv.ask("token", request))["error"] in ("authorization_pending", "slow_down")
    assert await code_for(login, "app", sub="mallory"), "an app's grant has no code to guess"
    assert await login.ask("authorize", right | {"sub": "alice"}) == {}
    assert "access_token" in await tv.ask("token", request)


async def test_scope_is_told_when_it_differs_from_the_request(clients: Clients) -> None:
    """RFC 6749 §5.1: to a device that was granted less, and to a client that named no scope."""
    app, login = await clients.all("app", "login")
    started = await app.ask("device_authorization", {"scope": SCOPE})
    approval = {"user_code": started["user_code"], "sub": "alice", "approved": True, "scope": "read"}
    assert await login.ask("authorize", approval) == {}
    answer = await app.ask("token", poll(started["device_code"]))
    assert answer["scope"] == claims(answer["access_token"])["scope"] == "read"
    assert (await app.ask("issue", {"sub": "alice"}))["scope"] == SCOPE
