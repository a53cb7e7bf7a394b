"""Every grant, from the asking to the tokens (RFC 6749, 7636, 8628, 8693, 9068, OpenID Connect Core)."""

import asyncio
import json
import warnings
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import jwt
import pytest
from click.testing import CliRunner
from joserfc import jwt as joserfc_jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet

from heirloom.cli.main import main
from tests.system.service import Caller, Service
from tests.system.workspace import ACCESS_TOKEN, CHALLENGE, DEVICE, EXCHANGE, VERIFIER, claims

SEED = """
[[tenant]]
name = "grants"
issuer = "https://grants.example"

[[tenant]]
name = "edwards"
issuer = "https://edwards.example"
signing_alg = "Ed25519"

[[client]]
tenant = "edwards"
client_id = "app"
scope = "openid read offline_access"
may_issue = true

[[client]]
tenant = "grants"
client_id = "login"
may_authorize = true
scope = "openid read"

[[client]]
tenant = "grants"
client_id = "app"
scope = "openid read write offline_access"
redirect_uris = ["https://app.example/cb", "http://127.0.0.1/cb"]
token_endpoint_auth_method = "none"
may_issue = true

[[client]]
tenant = "grants"
client_id = "other"
scope = "read offline_access"

[[client]]
tenant = "grants"
client_id = "tv"
grant_types = ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"]
scope = "read offline_access"
audiences = ["https://a.example", "https://b.example"]

[[client]]
tenant = "grants"
client_id = "radio"
grant_types = ["urn:ietf:params:oauth:grant-type:device_code"]
scope = "read"

[[client]]
tenant = "grants"
client_id = "orders"
grant_types = ["urn:ietf:params:oauth:grant-type:token-exchange", "client_credentials"]
scope = "read write"
audiences = ["https://stock.example"]
may_exchange = ["app"]
access_token_ttl = 3600
may_introspect = true

[[client]]
tenant = "grants"
client_id = "billing"
grant_types = ["urn:ietf:params:oauth:grant-type:token-exchange"]
scope = "read"
may_exchange = ["orders"]
access_token_format = "opaque"

[[client]]
tenant = "grants"
client_id = "opaque"
grant_types = ["refresh_token"]
scope = "read offline_access"
access_token_format = "opaque"
may_issue = true
"""


@pytest.fixture(scope="module")
def service(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The shared one, with two more tenants, and a client for each grant."""
    file = tmp_path_factory.mktemp("grants") / "seed.toml"
    file.write_text(SEED)
    applied = CliRunner().invoke(main, ["apply", "--data", str(service.data), str(file)])
    assert applied.exit_code == 0, applied.output
    return service


def connected(service: Service, client_id: str, tenant: str = "grants") -> AbstractAsyncContextManager[Caller]:
    """As one of these clients."""
    return service.client(client_id, tenant)


@pytest.fixture
async def login(service: Service) -> AsyncIterator[Caller]:
    """The trusted login service."""
    async with connected(service, "login") as login:
        yield login


@pytest.fixture
async def app(service: Service) -> AsyncIterator[Caller]:
    """A public app."""
    async with connected(service, "app") as app:
        yield app


def grant(**changes: Any) -> dict[str, Any]:
    """What the login service tells of Alice; a change to None leaves the parameter out."""
    request = {
        "client_id": "app",
        "sub": "alice",
        "scope": "openid read offline_access",
        "redirect_uri": "https://app.example/cb",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "acr": "mfa",
        "amr": ["pwd", "otp"],
        "auth_time": 1_700_000_000,
        "nonce": "n-1",
    } | changes
    return {name: value for name, value in request.items() if value is not None}


def redemption(code: str, /, **changes: Any) -> dict[str, Any]:
    """The app's request."""
    request = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": "https://app.example/cb",
        "code_verifier": VERIFIER,
    } | changes
    return {name: value for name, value in request.items() if value is not None}


async def code_for(login: Caller, **changes: Any) -> str:
    answer = await login.ask("authorize", grant(**changes))
    assert answer["expires_in"] == 60, answer
    code: str = answer["code"]
    return code


async def test_a_code_becomes_tokens(login: Caller, app: Caller) -> None:
    """RFC 6749 §4.1: access, refresh and ID token; who, how and when he was authenticated stays through refreshes."""
    tokens = await app.ask("token", redemption(await code_for(login)))
    assert {"access_token", "refresh_token", "id_token", "scope", "token_type", "expires_in"} == set(tokens)
    first = claims(tokens["id_token"])
    assert (first["aud"], first["nonce"], first["sub"]) == ("app", "n-1", "alice")
    refreshed = await app.refresh(tokens["refresh_token"])
    again = claims(refreshed["id_token"])
    assert "nonce" not in again
    for name in ("iss", "sub", "aud", "auth_time", "acr", "amr", "sid"):
        assert again[name] == first[name]
    assert claims(refreshed["access_token"])["auth_time"] == 1_700_000_000


async def test_two_redemptions_at_once_open_one_family(login: Caller, app: Caller) -> None:
    """Without a key at most one succeeds and its family ends; with the same key both get the same tokens."""
    for key in (None, "k"):
        for _ in range(20):
            code = await code_for(login)
            answers = await asyncio.gather(*(app.ask("token", redemption(code), key=key) for _ in range(4)))
            won = [answer for answer in answers if "error" not in answer]
            assert len({answer["refresh_token"] for answer in won}) == 1
            assert len(won) == (4 if key else 1)
            assert await app.active(won[0]["refresh_token"]) == bool(key)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"redirect_uri": "https://app.example/other"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"code": "hac_" + "0" * 67}, "invalid_grant"),
    ],
)
async def test_a_code_is_bound_to_verifier_and_redirect_uri(
    login: Caller, app: Caller, changes: dict[str, Any], error: str
) -> None:
    """RFC 7636 §4.6, RFC 6749 §4.1.3: the wrong one is refused, and the right one still works afterwards."""
    code = await code_for(login)
    assert (await app.ask("token", redemption(code, **changes)))["error"] == error
    assert "access_token" in await app.ask("token", redemption(code))


async def test_a_code_is_bound_to_its_client_and_kind(service: Service, login: Caller, app: Caller) -> None:
    """Another client gets nothing and burns nothing; a code is no refresh token, nor the other way round."""
    code = await code_for(login)
    async with connected(service, "other") as other:
        assert (await other.ask("token", redemption(code)))["error"] == "invalid_grant"
    assert (await app.refresh(code))["error"] == "invalid_grant"
    tokens = await app.ask("token", redemption(code))
    assert (await app.ask("token", redemption(tokens["refresh_token"])))["error"] == "invalid_grant"
    assert await app.active(tokens["refresh_token"])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),
        ({"redirect_uri": "https://app.example/cb?x=1"}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:99999999/cb"}, "invalid_request"),
        ({"client_id": None}, "invalid_request"),
        ({"client_id": "nobody"}, "invalid_request"),
        ({"client_id": "tv"}, "unauthorized_client"),
        ({"sub": None}, "invalid_request"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"resource": "nowhere"}, "invalid_target"),
        ({"auth_time": -1}, "invalid_request"),
        ({"user_code": "AAAA-AAAA"}, "invalid_request"),
        ({"user_code": "BBBB-BBBB", "approved": True}, "invalid_grant"),
    ],
)
async def test_authorize_refuses(login: Caller, changes: dict[str, Any], error: str) -> None:
    """Each parameter wrong or missing, with its code; nobody gets a code."""
    assert (await login.ask("authorize", grant(**changes)))["error"] == error


async def test_only_a_trusted_client_authorizes(app: Caller, login: Caller) -> None:
    """`may_authorize`; and a loopback redirect may use any port (RFC 8252 §7.3)."""
    assert (await app.ask("authorize", grant()))["error"] == "unauthorized_client"
    uri = "http://127.0.0.1:51234/cb"
    assert "access_token" in await app.ask(
        "token", redemption(await code_for(login, redirect_uri=uri), redirect_uri=uri)
    )


async def test_a_device_is_approved(service: Service, login: Caller) -> None:
    """RFC 8628: pending, too fast, approved with less than was asked, once; the tokens tell of the approval."""
    async with connected(service, "tv") as tv:
        resources = ["https://a.example", "https://b.example"]
        started = await tv.ask("device_authorization", {"scope": "read offline_access", "resource": resources})
        assert {"device_code", "user_code", "verification_uri", "expires_in", "interval"} <= set(started)
        poll = {"grant_type": DEVICE, "device_code": started["device_code"]}
        assert (await tv.ask("token", poll))["error"] == "authorization_pending"
        assert (await tv.ask("token", poll))["error"] in ("slow_down", "authorization_pending")
        answers = [(await tv.ask("token", poll))["error"] for _ in range(4)]
        assert "slow_down" in answers
        typed = started["user_code"].lower().replace("-", " ")
        answer = {"user_code": typed, "sub": "alice", "approved": True, "acr": "mfa", "auth_time": 1_700_000_000}
        answer["resource"] = resources[1]
        assert await login.ask("authorize", answer) == {}
        assert (await login.ask("authorize", answer))["error"] == "invalid_grant"
        tokens = await tv.ask("token", poll, key="k")
        told = claims(tokens["access_token"])
        assert (told["acr"], told["auth_time"], told["aud"]) == ("mfa", 1_700_000_000, resources[1])
        assert (await tv.ask("token", poll, key="k"))["refresh_token"] == tokens["refresh_token"]
        assert "access_token" in await tv.refresh(tokens["refresh_token"])
        assert (await tv.ask("token", poll))["error"] == "invalid_grant"
        assert await tv.active(tokens["access_token"]), "an answer may have been lost: nothing ends"


async def test_a_device_is_denied(service: Service, login: Caller) -> None:
    """RFC 8628 §3.5 `access_denied`; another client's poll learns nothing, before and after."""
    async with connected(service, "tv") as tv, connected(service, "radio") as radio, connected(service, "app") as app:
        started = await tv.ask("device_authorization", {})
        poll = {"grant_type": DEVICE, "device_code": started["device_code"]}
        assert (await app.ask("token", poll))["error"] == "unauthorized_client"
        assert (await app.ask("device_authorization", {}))["error"] == "unauthorized_client"
        assert (await radio.ask("token", poll))["error"] == "invalid_grant"
        await login.ask("authorize", {"user_code": started["user_code"], "sub": "alice", "approved": False})
        assert (await radio.ask("token", poll))["error"] == "invalid_grant"
        assert (await tv.ask("token", poll))["error"] == "access_denied"


async def test_nobody_finds_a_device_by_trying(service: Service, login: Caller) -> None:
    """RFC 8628 §5.1: after five wrong codes no more of this person's are looked at, right or wrong; others' are."""
    async with connected(service, "tv") as tv:
        started = await tv.ask("device_authorization", {})
        poll = {"grant_type": DEVICE, "device_code": started["device_code"]}
        tries = [
            {"user_code": f"BBBB-BBB{letter}", "sub": "mallory", "approved": letter != "C"} for letter in "BCDFGHJKLM"
        ]
        answers = await asyncio.gather(*(login.ask("authorize", each) for each in tries))
        assert Counter(answer["error"] for answer in answers) == {"invalid_grant": 5, "slow_down": 5}
        right = {"user_code": started["user_code"], "sub": "mallory", "approved": True}
        for answer in (right, right | {"approved": False}, right | {"scope": "admin"}):
            assert (await login.ask("authorize", answer))["error"] == "slow_down"
        assert (await tv.ask("token", poll))["error"] in ("authorization_pending", "slow_down")
        assert "code" in await login.ask("authorize", grant(sub="mallory")), "an app's grant has no code to guess"
        assert await login.ask("authorize", right | {"sub": "alice"}) == {}
        assert "access_token" in await tv.ask("token", poll)


def swap(token: str, /, **changes: Any) -> dict[str, Any]:
    """A service's request for a token of its own."""
    request = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN} | changes
    return {name: value for name, value in request.items() if value is not None}


async def test_an_exchanged_token_shares_the_familys_fate(service: Service, app: Caller) -> None:
    """RFC 8693: narrower, for the service's own audience, naming who acts; never outlives, dies with the family."""
    async with connected(service, "orders") as orders, connected(service, "billing") as billing:
        mine = await app.issue(scope="read write offline_access")
        swapped = await orders.ask("token", swap(mine["access_token"], scope="read", resource="https://stock.example"))
        assert swapped["issued_token_type"] == ACCESS_TOKEN and "refresh_token" not in swapped
        told = claims(swapped["access_token"])
        assert (told["sub"], told["client_id"], told["aud"]) == ("alice", "orders", "https://stock.example")
        assert (told["scope"], told["act"]) == ("read", {"sub": "orders"})
        assert told["exp"] <= claims(mine["access_token"])["exp"]
        assert told["sid"] == claims(mine["access_token"])["sid"]
        onward = await billing.ask("token", swap(swapped["access_token"]))
        described = await orders.ask("introspect", {"token": onward["access_token"]})
        assert described["act"] == {"sub": "billing", "act": {"sub": "orders"}} and described["aud"] == "billing"
        refreshed = await app.refresh(mine["refresh_token"])
        assert claims(refreshed["access_token"])["scope"] == "read write offline_access"
        await app.ask("revoke", {"token": refreshed["refresh_token"]})
        for token in (swapped, onward):
            assert not await orders.active(token["access_token"])
        assert (await orders.ask("token", swap(mine["access_token"])))["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"subject_token": None}, "invalid_request"),
        ({"subject_token": "x.y.z"}, "invalid_request"),
        ({"subject_token_type": None}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"actor_token": "x"}, "invalid_request"),
        ({"scope": "read admin"}, "invalid_scope"),
        ({"resource": "nowhere"}, "invalid_target"),
        ({"audience": ["x"] * 17}, "invalid_target"),
        ({"audience": "*"}, "invalid_target"),
        ({"audience": "billing"}, "invalid_target"),
        ({"resource": "https://elsewhere.example"}, "invalid_target"),
    ],
)
async def test_exchange_refuses(service: Service, app: Caller, changes: dict[str, Any], error: str) -> None:
    """Each parameter wrong or missing, with its code."""
    async with connected(service, "orders") as orders:
        token = (await app.issue(scope="read"))["access_token"]
        assert (await orders.ask("token", swap(token, **changes)))["error"] == error


async def test_client_credentials_for_the_client_alone(service: Service, app: Caller) -> None:
    """RFC 6749 §4.4: its own scope and lifetime, no refresh token; a public client has none."""
    async with connected(service, "orders") as orders:
        token = await orders.ask("token", {"grant_type": "client_credentials", "scope": "read"})
        assert (token["expires_in"], token["scope"]) == (3600, "read") and "refresh_token" not in token
        assert claims(token["access_token"])["sub"] == "orders"
        assert await orders.ask("revoke", {"token": token["access_token"]}) == {}
        assert not await orders.active(token["access_token"])
        assert (await orders.ask("token", {"grant_type": "client_credentials", "scope": "admin"}))[
            "error"
        ] == "invalid_scope"
    assert (await app.ask("token", {"grant_type": "client_credentials"}))["error"] == "unauthorized_client"


async def test_opaque_access_tokens(service: Service) -> None:
    """`hat_`: introspected like a JWT, the same one for a retry, revoked alone while its siblings live."""
    async with connected(service, "opaque") as client:
        first = await client.issue(scope="read offline_access")
        second = await client.refresh(first["refresh_token"], key="k")
        assert second["access_token"].startswith("hat_")
        described = await client.ask("introspect", {"token": first["access_token"]})
        assert (described["active"], described["sub"], described["scope"]) == (True, "alice", "read offline_access")
        assert await client.ask("revoke", {"token": first["access_token"]}) == {}
        assert [await client.active(tokens["access_token"]) for tokens in (first, second)] == [False, True]
        again = await client.refresh(first["refresh_token"], key="k")
        assert (again["access_token"], again["refresh_token"]) == (second["access_token"], second["refresh_token"])
        altered = second["access_token"][:-9] + "x" * 9
        assert await client.ask("introspect", {"token": altered}) == {"active": False}
        assert (await client.refresh(first["refresh_token"]))["error"] == "invalid_grant"
        assert not await client.active(second["access_token"])


@pytest.mark.parametrize(("tenant", "algorithm"), [("grants", "ES256"), ("edwards", "EdDSA")])
async def test_tokens_are_verified_by_others(service: Service, tenant: str, algorithm: str) -> None:
    """RFC 9068 §2: PyJWT and joserfc verify from the JWKS fetched over the bus; `typ`, and every required claim."""
    async with connected(service, "app", tenant) as app:
        tokens = await app.ask("issue", {"sub": "alice", "scope": "openid read"})
        reply = await app.connection.request(f"oauth.{tenant}.public.jwks", b"{}")
    keys = json.loads(reply.data)
    header = jwt.get_unverified_header(tokens["access_token"])
    assert (header["typ"], header["alg"]) == ("at+jwt", algorithm)
    (jwk,) = [key for key in keys["keys"] if key["kid"] == header["kid"]]
    assert "d" not in jwk
    issuer = f"https://{tenant}.example"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # RFC 9864 renames EdDSA; PyJWT knows only the old name
        verified = joserfc_jwt.decode(
            tokens["access_token"], KeySet.import_key_set(keys), algorithms=[algorithm]
        ).claims
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= set(verified)
    for token, audience in ((tokens["access_token"], issuer), (tokens["id_token"], "app")):
        assert jwt.decode(token, jwt.PyJWK(jwk), algorithms=[algorithm], audience=audience, issuer=issuer)
