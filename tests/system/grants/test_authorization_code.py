"""The authorization code grant: RFC 6749 §4.1 with PKCE (RFC 7636), OpenID Connect Core §3.1."""

import asyncio
import base64
import hashlib
from typing import Any

import pytest

from tests.system.service import Caller
from tests.system.workspace import (
    CHALLENGE,
    INACTIVE,
    REDIRECT,
    Clients,
    Workspace,
    claims,
    code_for,
    device_code,
    poll,
    redemption,
    swap,
)


@pytest.fixture
async def login(clients: Clients) -> Caller:
    """The trusted login service."""
    return await clients("login")


@pytest.fixture
async def app(clients: Clients) -> Caller:
    """A public app, which may be redirected to its own machine too."""
    return await clients(
        "app",
        grant_types=["refresh_token", "authorization_code"],
        redirect_uris=[REDIRECT, "http://127.0.0.1/cb"],
        token_endpoint_auth_method="none",
    )


def grant(**changes: Any) -> dict[str, Any]:
    """What the login service requests for Alice; a change to None leaves the parameter out."""
    request = {
        "client_id": "app",
        "sub": "alice",
        "scope": "openid read offline_access",
        "redirect_uri": REDIRECT,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    } | changes
    return {name: value for name, value in request.items() if value is not None}


async def test_a_code_becomes_tokens(login: Caller, app: Caller) -> None:
    """RFC 6749 §4.1: access, refresh and ID token; the authentication's claims stay the same through refreshes."""
    authentication = {"acr": "mfa", "amr": ["pwd", "otp"], "auth_time": 1_700_000_000}
    code = await login.ask("authorize", grant(nonce="n-1", **authentication))
    assert code["expires_in"] == 60
    tokens = await app.ask("token", redemption(code["code"]))
    assert {"access_token", "refresh_token", "id_token", "scope", "token_type", "expires_in"} == set(tokens)
    first = claims(tokens["id_token"])
    assert (first["aud"], first["nonce"], first["sub"]) == ("app", "n-1", "alice")
    refreshed = await app.refresh(tokens["refresh_token"])
    again = claims(refreshed["id_token"])
    assert "nonce" not in again
    for name in ("iss", "sub", "sid", "aud", *authentication):
        assert again[name] == first[name]
    assert {name: first[name] for name in authentication} == authentication
    assert claims(refreshed["access_token"])["auth_time"] == 1_700_000_000


async def test_two_redemptions_at_once_open_one_family(login: Caller, app: Caller) -> None:
    """Without a key one of them succeeds and its family ends; with one key all return the same tokens."""
    for key in (None, "k"):
        for _ in range(20):
            code = await code_for(login, "app")
            answers = await asyncio.gather(*(app.ask("token", redemption(code), key=key) for _ in range(4)))
            won = [answer for answer in answers if "error" not in answer]
            assert len({answer["refresh_token"] for answer in won}) == 1
            assert len(won) == (4 if key else 1)
            assert await app.active(won[0]["refresh_token"]) == bool(key)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"redirect_uri": "https://app.example/other"}, "invalid_grant"),
        ({"code": "hac_" + "0" * 67}, "invalid_grant"),
    ],
)
async def test_a_code_is_bound_to_verifier_and_redirect_uri(
    login: Caller, app: Caller, changes: dict[str, Any], error: str
) -> None:
    """RFC 7636 §4.6, RFC 6749 §4.1.3: a wrong one is refused, and the right one still works afterwards."""
    request = redemption(await code_for(login, "app"))
    assert (await app.ask("token", request | changes))["error"] == error
    assert "access_token" in await app.ask("token", request)


async def test_a_code_is_bound_to_its_own_verifier(login: Caller, app: Caller) -> None:
    """RFC 7636 §4.6: neither another code's verifier nor the challenge itself redeems it."""
    verifier = "w" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    mine, others = await code_for(login, "app"), await code_for(login, "app", code_challenge=challenge)
    assert (await app.ask("token", redemption(others)))["error"] == "invalid_grant"
    for wrong in (verifier, CHALLENGE):
        request = redemption(mine) | {"code_verifier": wrong}
        assert (await app.ask("token", request))["error"] == "invalid_grant"
    assert "access_token" in await app.ask("token", redemption(mine))
    assert "access_token" in await app.ask("token", redemption(others) | {"code_verifier": verifier})


async def test_a_code_is_bound_to_its_client_and_kind(clients: Clients, login: Caller, app: Caller) -> None:
    """Another client's attempt fails and consumes nothing; a code is no refresh token, nor the other way round."""
    code, other = await code_for(login, "app"), await clients("other")
    assert (await other.ask("token", redemption(code)))["error"] == "invalid_grant"
    assert (await app.refresh(code))["error"] == "invalid_grant"
    tokens = await app.ask("token", redemption(code))
    assert (await app.ask("token", redemption(tokens["refresh_token"])))["error"] == "invalid_grant"
    assert await app.active(tokens["refresh_token"])


async def test_a_code_used_twice(workspace: Workspace, clients: Clients) -> None:
    """RFC 6749 §4.1.2: one commit of two events ends all that came of the code; CONTRACT §3.5: few commits follow."""
    app, login, orders = await clients.all("app", "login", "orders")
    request = redemption(await code_for(login, "app"))
    first = await app.ask("token", request)
    second = await app.refresh(first["refresh_token"])
    exchanged = await orders.ask("token", swap(second["access_token"]))
    family = claims(first["access_token"])["sid"]
    history, before = await workspace.timeline(family), await workspace.sequence()
    assert (await app.ask("token", request))["error"] == "invalid_grant"
    assert await workspace.sequence() == before + 1
    assert await workspace.timeline(family) == [*history, "TokenReuseDetected", "FamilyRevoked"]
    for token in (first["access_token"], second["access_token"], exchanged["access_token"], second["refresh_token"]):
        assert await orders.ask("introspect", {"token": token}) == INACTIVE
    assert (await app.refresh(second["refresh_token"]))["error"] == "invalid_grant"
    assert await workspace.reasons() == ["code_reuse"]
    for _ in range(12):
        assert (await app.ask("token", request))["error"] == "invalid_grant"
    assert await workspace.sequence() <= before + 1 + 3


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        *(({"code_challenge_method": method}, "invalid_request") for method in ("plain", "s256", "S512", "", None)),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),
        ({"redirect_uri": "https://app.example/cb?x=1"}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:99999999/cb"}, "invalid_request"),
        ({"client_id": "nobody"}, "invalid_request"),
        ({"client_id": "api"}, "unauthorized_client"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"resource": "nowhere"}, "invalid_target"),
        ({"auth_time": -1}, "invalid_request"),
        ({"user_code": "AAAA-AAAA"}, "invalid_request"),
        ({"user_code": "BBBB-BBBB", "approved": True}, "invalid_grant"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("app")
async def test_authorize_refuses(workspace: Workspace, login: Caller, changes: dict[str, Any], error: str) -> None:
    """RFC 7636 §4.2: S256 only, and no default, which would be `plain`; each wrong value with its error and no code."""
    if changes.get("client_id") == "api":
        await workspace.register("api")
    before = await workspace.sequence()
    assert (await login.ask("authorize", grant(**changes)))["error"] == error
    assert await workspace.sequence() == before


async def test_only_a_trusted_client_authorizes(app: Caller, login: Caller) -> None:
    """`may_authorize`; a loopback redirect may use any port (RFC 8252 §7.3)."""
    assert (await app.ask("authorize", grant()))["error"] == "unauthorized_client"
    uri = "http://127.0.0.1:51234/cb"
    code = await code_for(login, "app", redirect_uri=uri)
    assert "access_token" in await app.ask("token", redemption(code) | {"redirect_uri": uri})


@pytest.mark.parametrize("grant", ["authorization_code", "device_code"])
async def test_a_code_is_redeemed_for_a_part_of_its_resources(clients: Clients, grant: str) -> None:
    """RFC 8707 §2.2: the refresh token is for all of them; a resource that was not granted consumes no code."""
    app, login = await clients.all("app", "login")
    granted = ["https://a.example", "https://b.example"]
    request = (
        redemption(await code_for(login, "app", resource=granted))
        if grant == "authorization_code"
        else poll(await device_code(app, login, resource=granted))
    )
    for target in ("https://evil.example", "not a uri"):
        assert (await app.ask("token", request | {"resource": target}))["error"] == "invalid_target"
    first = await app.ask("token", request | {"resource": granted[0]})
    assert claims(first["access_token"])["aud"] == granted[0]
    assert claims((await app.refresh(first["refresh_token"]))["access_token"])["aud"] == granted
