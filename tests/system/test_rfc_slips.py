"""Where implementers slip: each place by its RFC and section, through the running service.

`Cache-Control: no-store` (RFC 6749 §5.1) is a header of HTTP; there is no such thing on the bus.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry
from nats.errors import TimeoutError as NatsTimeoutError

from heirloom.broker.roles import SHOWN
from service.keys import keyring
from service.keys.signing_key import SigningKey
from tests.system.service import Caller
from tests.system.workspace import (
    ACCESS_TOKEN,
    CHALLENGE,
    DEVICE,
    EXCHANGE,
    REDIRECT,
    SCOPE,
    Workspace,
    claims,
    code_for,
    device_code,
    poll,
    redemption,
    swap,
)

INACTIVE = {"active": False}


class Callers:
    """Whom most of these tests need, connected: an app, another one, a login service, services that exchange."""

    app: Caller
    other: Caller
    login: Caller
    orders: Caller


@pytest.fixture
async def callers(workspace: Workspace) -> AsyncIterator[Callers]:
    """Of the test's own tenant."""
    grants = ["refresh_token", "authorization_code", DEVICE, "client_credentials"]
    found = Callers()
    async with AsyncExitStack() as stack:
        for client_id, settings in (
            ("app", {"grant_types": grants, "redirect_uris": [REDIRECT], "audiences": ["*"]}),
            ("other", {"grant_types": grants, "redirect_uris": [REDIRECT]}),
            ("login", {"may_authorize": True}),
            (
                "orders",
                {"grant_types": [EXCHANGE], "may_introspect": True, "may_issue": False, "may_exchange": ["app"]},
            ),
        ):
            await workspace.register(client_id, **settings)
            setattr(found, client_id, await stack.enter_async_context(workspace.client(client_id)))
        yield found


# RFC 6749


async def test_rfc6749_5_1_scope_is_told_when_it_differs_from_what_was_asked(callers: Callers) -> None:
    """A device that asked for everything and was granted less hears so; so does whoever named no scope at all."""
    started = await callers.app.ask("device_authorization", {"scope": SCOPE})
    approval = {"user_code": started["user_code"], "sub": "alice", "approved": True, "scope": "read"}
    assert await callers.login.ask("authorize", approval) == {}
    answer = await callers.app.ask("token", poll(started["device_code"]))
    assert answer["scope"] == claims(answer["access_token"])["scope"] == "read"
    assert (await callers.app.ask("issue", {"sub": "alice"}))["scope"] == SCOPE
    for_itself = await callers.app.ask("token", {"grant_type": "client_credentials"})
    assert for_itself["scope"] == "profile read write", "nobody signs in, and there is nothing to refresh"


async def test_rfc6749_6_no_scope_beyond_the_grant_and_omitted_means_the_original(
    workspace: Workspace, callers: Callers
) -> None:
    """Also where the client itself may ask for more, and also after a refresh with less."""
    token = (await callers.app.issue(scope="read write offline_access"))["refresh_token"]
    before = await workspace.sequence()
    assert (await callers.app.refresh(token, scope="read profile"))["error"] == "invalid_scope"
    assert await workspace.sequence() == before
    narrowed = await callers.app.refresh(token, scope="read")
    omitted = await callers.app.refresh(narrowed["refresh_token"])
    assert [answer["scope"] for answer in (narrowed, omitted)] == ["read", "read write offline_access"]


async def test_rfc6749_10_4_a_refresh_token_is_bound_to_its_client(workspace: Workspace, callers: Callers) -> None:
    """Another client that proved who it is rotates nothing and kills nothing, with a current token or an old one.

    Whoever revokes hears the same of a genuine token of another client as of a forged one (RFC 7009 §2.2).
    """
    first = await callers.app.issue()
    second = await callers.app.refresh(first["refresh_token"])
    before = await workspace.sequence()
    for tokens in (first, second):
        for key in (None, "k"):
            assert (await callers.other.refresh(tokens["refresh_token"], key=key))["error"] == "invalid_grant"
        assert await callers.other.ask("introspect", {"token": tokens["refresh_token"]}) == INACTIVE
        for token in (tokens["refresh_token"], tokens["access_token"], tokens["refresh_token"][:-1] + "0"):
            assert await callers.other.ask("revoke", {"token": token}) == {}
    assert await workspace.sequence() == before
    assert "access_token" in await callers.app.refresh(second["refresh_token"])


async def test_rfc6749_4_1_2_a_code_used_twice_kills_what_it_gave(workspace: Workspace, callers: Callers) -> None:
    """Everything that came of it, also what was refreshed or exchanged since; the history says why."""
    app, login = callers.app, callers.login
    request = redemption(await code_for(login, "app"))
    first = await app.ask("token", request)
    second = await app.refresh(first["refresh_token"])
    exchanged = await callers.orders.ask("token", swap(second["access_token"]))
    assert (await app.ask("token", request))["error"] == "invalid_grant"
    for token in (first["access_token"], second["access_token"], exchanged["access_token"], second["refresh_token"]):
        assert await callers.orders.ask("introspect", {"token": token}) == INACTIVE
    assert (await app.refresh(second["refresh_token"]))["error"] == "invalid_grant"
    assert await workspace.reasons() == ["code_reuse"]


async def test_rfc6749_3_2_a_parameter_without_a_value_is_left_out(callers: Callers) -> None:
    """Wherever it may be left out; where it must be there it is missing."""
    empty = {"scope": "", "resource": "", "acr": "", "nonce": ""}
    first = await callers.app.ask("issue", {"sub": "alice", **empty})
    assert first["scope"] == SCOPE
    second = await callers.app.refresh(first["refresh_token"], scope="", resource="")
    assert second["scope"] == SCOPE
    swapped = swap(second["access_token"], scope="", resource="", audience="", requested_token_type="", actor_token="")
    assert claims((await callers.orders.ask("token", swapped))["access_token"])["aud"] == "orders"
    code = await code_for(callers.login, "app", user_code="", scope="")
    assert "access_token" in await callers.app.ask("token", redemption(code))
    assert (await callers.app.ask("issue", {"sub": ""}))["error"] == "invalid_request"


# RFC 7009


async def test_rfc7009_2_1_access_token_of_a_revoked_refresh_token_is_dead(callers: Callers) -> None:
    """Every access token of the grant, not the latest alone."""
    tokens = [await callers.app.issue()]
    for _ in range(2):
        tokens.append(await callers.app.refresh(tokens[-1]["refresh_token"]))
    assert await callers.app.ask("revoke", {"token": tokens[-1]["refresh_token"]}) == {}
    for answer in tokens:
        assert await callers.app.ask("introspect", {"token": answer["access_token"]}) == INACTIVE


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "urn:example:unknown", ""])
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_rfc7009_2_1_a_wrong_hint_does_not_hide_a_token(callers: Callers, kind: str, hint: str) -> None:
    """Whatever the hint says, the token is found: for introspection (RFC 7662 §2.1) and for revocation."""
    token = (await callers.app.issue())[kind]
    request = {"token": token, "token_type_hint": hint}
    assert (await callers.app.ask("introspect", request))["active"] is True
    assert await callers.app.ask("revoke", request) == {}
    assert await callers.app.ask("introspect", request) == INACTIVE


async def test_rfc7009_2_2_an_unknown_token_is_a_success(workspace: Workspace, callers: Callers) -> None:
    """`{}` for what was never a token, what is dead, and what is revoked again; nothing is written."""
    dead = (await callers.app.issue())["refresh_token"]
    await callers.app.ask("revoke", {"token": dead})
    before = await workspace.sequence()
    for token in ("x", "hrt_" + "0" * 69, "hat_x", "a.b.c", dead, "\u2603"):
        assert await callers.app.ask("revoke", {"token": token}) == {}
    assert await workspace.sequence() == before


# RFC 7662


async def test_rfc7662_2_2_what_is_not_active_is_told_as_that_alone(workspace: Workspace, callers: Callers) -> None:
    """Revoked, rotated, expired, never issued, somebody else's: exactly `{"active": false}`."""
    await workspace.register("brief", access_token_ttl=1, refresh_token_ttl=1)
    async with workspace.client("brief") as brief:
        expired = await brief.issue()
    rotated, revoked, others = await callers.app.issue(), await callers.app.issue(), await callers.other.issue()
    await callers.app.refresh(rotated["refresh_token"])
    await callers.app.ask("revoke", {"token": revoked["refresh_token"]})
    bad = [rotated["refresh_token"], "x", "a.b.c"]
    bad += [tokens[kind] for tokens in (revoked, others) for kind in ("access_token", "refresh_token")]
    assert [await callers.app.ask("introspect", {"token": token}) for token in bad] == [INACTIVE] * len(bad)
    for kind in ("access_token", "refresh_token"):
        async with asyncio.timeout(5):
            while (answer := await callers.orders.ask("introspect", {"token": expired[kind]}))["active"]:
                await asyncio.sleep(0.05)
        assert answer == INACTIVE


async def test_rfc7662_2_1_the_caller_authenticates(workspace: Workspace, callers: Callers) -> None:
    """Where no subject proves the caller, its request must; without, with a name alone or a token, it hears nothing."""
    await workspace.register("public", token_endpoint_auth_method="none", may_introspect=True)
    token = (await callers.app.issue())["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    async with workspace.service.role("edge") as edge:
        for proof, headers in (({}, None), ({"client_id": "public"}, None), ({"client_id": "app"}, None), ({}, bearer)):
            request = {"token": token} | proof
            answer = await edge.ask(f"oauth.{workspace.name}.edge.introspect", request, headers=headers)
            assert answer["error"] == "invalid_client"


# RFC 7636


@pytest.mark.parametrize("method", ["plain", "s256", "S512", "", None])
async def test_rfc7636_4_2_s256_only(workspace: Workspace, callers: Callers, method: str | None) -> None:
    """No other method, and none left out, for that would be `plain`."""
    request = {"client_id": "app", "sub": "alice", "scope": "read", "redirect_uri": REDIRECT}
    request |= {"code_challenge": CHALLENGE} | ({} if method is None else {"code_challenge_method": method})
    before = await workspace.sequence()
    assert (await callers.login.ask("authorize", request))["error"] == "invalid_request"
    assert await workspace.sequence() == before


async def test_rfc7636_4_6_a_code_is_bound_to_its_verifier(callers: Callers) -> None:
    """Neither another code's verifier nor the challenge itself redeems it; its own does."""
    verifier = "w" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    mine, others = await code_for(callers.login, "app"), await code_for(callers.login, "app", code_challenge=challenge)
    assert (await callers.app.ask("token", redemption(others)))["error"] == "invalid_grant"
    for wrong in (verifier, CHALLENGE):
        request = redemption(mine) | {"code_verifier": wrong}
        assert (await callers.app.ask("token", request))["error"] == "invalid_grant"
    assert "access_token" in await callers.app.ask("token", redemption(mine))
    assert "access_token" in await callers.app.ask("token", redemption(others) | {"code_verifier": verifier})


# RFC 8693


async def test_rfc8693_2_2_1_issued_token_type(callers: Callers) -> None:
    """The answer says what was issued: an access token, `Bearer`, and no refresh token."""
    answer = await callers.orders.ask("token", swap((await callers.app.issue())["access_token"]))
    assert (answer["issued_token_type"], answer["token_type"]) == (ACCESS_TOKEN, "Bearer")
    assert "refresh_token" not in answer and "id_token" not in answer


async def test_rfc8693_2_2_2_a_dead_subject_token_is_an_invalid_request(workspace: Workspace, callers: Callers) -> None:
    """Revoked alone, of a revoked family, or never one; nothing is written."""
    alone, whole = await callers.app.issue(), await callers.app.issue()
    await callers.app.ask("revoke", {"token": alone["access_token"]})
    await callers.app.ask("revoke", {"token": whole["refresh_token"]})
    before = await workspace.sequence()
    for token in (alone["access_token"], whole["access_token"], alone["refresh_token"], "a.b.c"):
        assert (await callers.orders.ask("token", swap(token)))["error"] == "invalid_request"
    assert await workspace.sequence() == before


@pytest.mark.parametrize("end", ["reuse", "operator", "subject"])
async def test_rfc8693_an_exchanged_token_joins_the_familys_fate(
    workspace: Workspace, callers: Callers, end: str
) -> None:
    """However the family ends, what was exchanged from it, and from that, is dead at once."""
    mine = await callers.app.issue()
    once = await callers.orders.ask("token", swap(mine["access_token"]))
    twice = await callers.orders.ask("token", swap(once["access_token"]))
    for token in (once, twice):
        assert await callers.orders.active(token["access_token"])
    match end:
        case "reuse":
            await callers.app.refresh(mine["refresh_token"])
            await callers.app.refresh(mine["refresh_token"])
        case "operator":
            await workspace.order("family.revoke", family_id=claims(mine["access_token"])["sid"])
        case _:
            await workspace.order("subject.revoke", sub="alice")
    for token in (once, twice):
        assert await callers.orders.ask("introspect", {"token": token["access_token"]}) == INACTIVE
        assert (await callers.orders.ask("token", swap(token["access_token"])))["error"] == "invalid_request"


# RFC 8707


async def test_rfc8707_2_2_resource_on_refresh_stays_within_the_grant(workspace: Workspace, callers: Callers) -> None:
    """One of the granted targets narrows that access token alone; another target is `invalid_target`."""
    a, b, c = (f"https://{name}.example" for name in "abc")
    answer = await callers.app.ask("issue", {"sub": "alice", "scope": SCOPE, "resource": [a, b]})
    assert claims(answer["access_token"])["aud"] == [a, b]
    before = await workspace.sequence()
    for wrong in (c, [a, c], f"{a}/"):
        assert (await callers.app.refresh(answer["refresh_token"], resource=wrong))["error"] == "invalid_target"
    assert await workspace.sequence() == before
    audiences: list[Any] = []
    for asked in ({"resource": b}, {"resource": [a]}, {}):
        answer = await callers.app.refresh(answer["refresh_token"], **asked)
        audiences.append(claims(answer["access_token"])["aud"])
    assert audiences == [b, a, [a, b]]


# RFC 9068


async def test_rfc9068_2_type_and_claims(workspace: Workspace, callers: Callers) -> None:
    """`typ: at+jwt`, and every required claim, of every grant; no two access tokens share a `jti`."""
    app, login = callers.app, callers.login
    first = await app.issue()
    answers = [
        first,
        await app.refresh(first["refresh_token"]),
        await app.ask("token", redemption(await code_for(login, "app"))),
        await app.ask("token", poll(await device_code(app, login))),
        await app.ask("token", {"grant_type": "client_credentials"}),
        await callers.orders.ask("token", swap(first["access_token"])),
    ]
    for answer, sub, client_id in zip(answers, ["alice"] * 4 + ["app", "alice"], ["app"] * 5 + ["orders"], strict=True):
        assert _header(answer["access_token"])["typ"] == "at+jwt"
        told = claims(answer["access_token"])
        assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= set(told)
        assert (told["iss"], told["sub"], told["client_id"]) == (workspace.issuer, sub, client_id)
        assert told["iat"] <= time.time() < told["exp"] <= told["iat"] + 302
    assert len({claims(answer["access_token"])["jti"] for answer in answers}) == len(answers)


async def test_rfc9068_2_2_1_authentication_is_unchanged_by_refresh(callers: Callers) -> None:
    """`auth_time`, `acr` and `amr` tell of the login, however often the token was refreshed since, also narrowed."""
    login = {"acr": "mfa", "amr": ["pwd", "otp"], "auth_time": 1_700_000_000}
    answer = await callers.app.ask("issue", {"sub": "alice", "scope": SCOPE} | login)
    for asked in ({}, {"scope": "read"}, {}):
        answer = await callers.app.refresh(answer["refresh_token"], **asked)
        told = claims(answer["access_token"])
        assert {name: told[name] for name in login} == login


# RFC 8725


def _encoded(part: dict[str, Any] | bytes) -> bytes:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _header(token: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(_decoded(token.split(".")[0]))
    return header


def _signed(header: dict[str, Any], payload: str, key: ECKey) -> str:
    signing_input = _encoded(header) + b"." + payload.encode()
    return (signing_input + b"." + _encoded(JWSRegistry.algorithms["ES256"].sign(signing_input, key))).decode()


STRANGERS = ECKey.generate_key("P-256")
PUBLIC = {name: str(value) for name, value in STRANGERS.as_dict(private=False).items()}


def _by_stranger(**more: Any) -> Callable[[str, dict[str, Any]], str]:
    """Signed under a stranger's key, with a header that says where to find that."""
    return lambda token, _jwk: _signed(_header(token) | more, token.split(".")[1], STRANGERS)


def _unsigned(alg: str) -> Callable[[str, dict[str, Any]], str]:
    def forge(token: str, _jwk: dict[str, Any]) -> str:
        return f"{_encoded(_header(token) | {'alg': alg}).decode()}.{token.split('.')[1]}."

    return forge


def _with_the_public_key_as_secret(as_pem: bool) -> Callable[[str, dict[str, Any]], str]:
    def forge(token: str, jwk: dict[str, Any]) -> str:
        secret = ECKey.import_key(jwk).as_pem(private=False) if as_pem else json.dumps(jwk).encode()
        signing_input = _encoded(_header(token) | {"alg": "HS256"}) + b"." + token.split(".")[1].encode()
        return (signing_input + b"." + _encoded(hmac.digest(secret, signing_input, "sha256"))).decode()

    return forge


def _with_signature(signature: bytes) -> Callable[[str, dict[str, Any]], str]:
    return lambda token, _jwk: f"{token.rpartition('.')[0]}.{_encoded(signature).decode()}"


def _about_somebody_else(token: str, _jwk: dict[str, Any]) -> str:
    header, payload, signature = token.split(".")
    return f"{header}.{_encoded(json.loads(_decoded(payload)) | {'sub': 'mallory'}).decode()}.{signature}"


def _header_changed(**more: Any) -> Callable[[str, dict[str, Any]], str]:
    """The signature of before under another header."""
    return lambda token, _jwk: f"{_encoded(_header(token) | more).decode()}.{token.partition('.')[2]}"


FORGERIES: dict[str, Callable[[str, dict[str, Any]], str]] = {
    "3.1 alg none": _unsigned("none"),
    "3.1 alg nOnE": _unsigned("nOnE"),
    "3.1 no signature": lambda token, _jwk: token.rpartition(".")[0] + ".",
    "3.1 two parts": lambda token, _jwk: token.rpartition(".")[0],
    "3.1 HS256 with the public JWK": _with_the_public_key_as_secret(as_pem=False),
    "3.1 HS256 with the public PEM": _with_the_public_key_as_secret(as_pem=True),
    "3.1 another alg named": _header_changed(alg="ES384"),
    "3.3 a stranger's key under the same kid": _by_stranger(),
    "3.3 a stranger's key under its own kid": _by_stranger(kid=STRANGERS.thumbprint()),
    "3.3 another payload": _about_somebody_else,
    "3.4 a signature of zeros": _with_signature(bytes(64)),
    "3.10 kid as a path": _by_stranger(kid="../../dev/null"),
    "3.10 jwk in the token": _by_stranger(jwk=PUBLIC),
    "3.10 jwk in the token, without kid": _by_stranger(kid=None, jwk=PUBLIC),
    "3.10 jku": _by_stranger(jku="https://evil.example/jwks.json", kid=STRANGERS.thumbprint()),
    "3.10 x5u": _by_stranger(x5u="https://evil.example/cert.pem"),
    "3.10 x5c": _by_stranger(x5c=["MIIB"]),
}


async def _nothing_comes_of(callers: Callers, workspace: Workspace, forged: str, real: str) -> None:
    """Inactive, revokes nothing, buys nothing, refreshes nothing; the real token lives on."""
    before = await workspace.sequence()
    assert await callers.orders.ask("introspect", {"token": forged}) == INACTIVE
    assert await callers.app.ask("revoke", {"token": forged}) == {}
    assert (await callers.orders.ask("token", swap(forged)))["error"] == "invalid_request"
    assert (await callers.app.refresh(forged))["error"] == "invalid_grant"
    assert await workspace.sequence() == before
    assert await callers.orders.active(real)


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
async def test_rfc8725_3_forged_access_tokens(
    workspace: Workspace, callers: Callers, forge: Callable[[str, dict[str, Any]], str]
) -> None:
    """RFC 8725 §3: only the key the service knows, under the algorithm it made that key for."""
    real = (await callers.app.issue())["access_token"]
    published = await Caller(callers.app.connection, "").ask(f"oauth.{workspace.name}.public.jwks", {})
    (jwk,) = [key for key in published["keys"] if key["kid"] == _header(real)["kid"]]
    await _nothing_comes_of(callers, workspace, forge(real, jwk), real)


async def test_a_right_signature_alone_makes_no_token(workspace: Workspace, callers: Callers) -> None:
    """RFC 9068 §4: whoever has a leaked key can sign anything; what the family never issued is inactive, whatever it
    claims: another `jti`, holder, actor, end or audience, with the tag of a genuine token or without (ADR 0027).
    """
    real = (await callers.app.issue())["access_token"]
    key, told = _signing_key(workspace, _header(real)["kid"]), claims(real)
    for changes in (
        {"sub": "mallory", "jti": "x"},
        {"client_id": "other"},
        {"client_id": "app", "sub": "app"},
        {"scope": "root admin", "jti": "x"},
        {"act": {"no": "sub"}, "exp": 1 << 60},
        {"sid": "*"},
        {"jti": "never issued"},
        {"jti": "never issued", "client_id": "orders", "act": {"sub": "orders"}},
        {"client_id": "orders", "act": {"sub": "orders"}},
        {"exp": told["exp"] + 3600},
        {"aud": "https://elsewhere.example"},
        {"acr": "gold"},
    ):
        await _nothing_comes_of(callers, workspace, key.sign(told | changes), real)
    untagged = {name: value for name, value in told.items() if name != "tag"}
    await _nothing_comes_of(callers, workspace, key.sign(untagged), real)
    assert await callers.orders.active(key.sign(told))


def _signing_key(workspace: Workspace, kid: str) -> SigningKey:
    """The tenant's own signing key, for tokens that only their header betrays."""
    keys = keyring.load(workspace.service.data / "keyring.json")
    secrets = range(keys.first, keys.current + 1)
    found = (SigningKey(keys, workspace.name, secret, number, "ES256") for secret in secrets for number in range(1, 9))
    return next(key for key in found if key.kid == kid)


@pytest.mark.parametrize(
    "changes",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["urn:example:unknown"], "urn:example:unknown": True},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"typ": "JWT"},
        {"typ": None},
        {"alg": "ES512"},
    ],
    ids=str,
)
async def test_rfc8725_3_headers_that_a_right_signature_does_not_excuse(
    workspace: Workspace, callers: Callers, changes: dict[str, Any]
) -> None:
    """RFC 7515 §4.1.11 unknown `crit`, RFC 8725 §3.11 another `typ`, §3.1 an algorithm that is not the key's."""
    real = (await callers.app.issue())["access_token"]
    header, (_, payload, _signature) = _header(real), real.split(".")
    key = _signing_key(workspace, header["kid"])._key
    assert isinstance(key, ECKey)
    assert await callers.orders.active(_signed_compactly(header, payload, key)), "the signature is right"
    await _nothing_comes_of(callers, workspace, _signed_compactly(header | changes, payload, key), real)


def _signed_compactly(header: dict[str, Any], payload: str, key: ECKey) -> str:
    """Under a header without white space, as the service writes it."""
    signing_input = _encoded(json.dumps(header, separators=(",", ":")).encode()) + b"." + payload.encode()
    return (signing_input + b"." + _encoded(JWSRegistry.algorithms["ES256"].sign(signing_input, key))).decode()


async def test_rfc8725_3_12_an_id_token_is_no_access_token(workspace: Workspace, callers: Callers) -> None:
    """Signed by the same key, for the same person, and good for nothing here."""
    tokens = await callers.app.issue(scope=SCOPE)
    await _nothing_comes_of(callers, workspace, tokens["id_token"], tokens["access_token"])


# RFC 9700


async def test_rfc9700_4_14_2_refresh_tokens_of_public_clients_rotate(workspace: Workspace) -> None:
    """Whatever the workspace's default; and a public client cannot be registered with the switch to keep its token."""
    await workspace.settings(refresh_token_rotation="reuse")
    await workspace.register("app", token_endpoint_auth_method="none")
    async with workspace.client("app") as app:
        first = await app.issue()
        second = await app.refresh(first["refresh_token"])
        assert second["refresh_token"] != first["refresh_token"]
        assert (await app.refresh(first["refresh_token"]))["error"] == "invalid_grant"
        assert not await app.active(second["refresh_token"])
    with pytest.raises(AssertionError, match="must rotate"):
        await workspace.register("app", token_endpoint_auth_method="none", refresh_token_rotation="reuse")


async def test_rfc9700_4_14_2_detection_outlives_the_consumed_token(workspace: Workspace, callers: Callers) -> None:
    """A token used up long ago, whose own time is over too, still ends the family that lives on."""
    await workspace.register("idle", refresh_token_idle_ttl=2)
    async with workspace.client("idle") as idle:
        old = newest = await idle.issue()
        expired = (await idle.ask("introspect", {"token": old["refresh_token"]}))["exp"] + 1
        while time.time() <= expired:
            newest = await idle.refresh(newest["refresh_token"])
            await asyncio.sleep(0.1)
        assert await idle.active(newest["refresh_token"])
        assert (await idle.refresh(old["refresh_token"]))["error"] == "invalid_grant"
        assert not await idle.active(newest["refresh_token"])
    assert await workspace.reasons() == ["reuse_detected"]


# OpenID Connect Core


async def test_openid_core_12_2_an_id_token_from_a_refresh(workspace: Workspace, callers: Callers) -> None:
    """The same iss, sub, aud and auth_time, a new iat, and no nonce; at the second refresh as at the first."""
    request = {"sub": "alice", "scope": SCOPE, "nonce": "n", "auth_time": 1_700_000_000}
    answer = await callers.app.ask("issue", request)
    first = claims(answer["id_token"])
    assert (first["nonce"], first["iss"], first["aud"]) == ("n", workspace.issuer, "app")
    for _ in range(2):
        answer = await callers.app.refresh(answer["refresh_token"])
        told = claims(answer["id_token"])
        assert "nonce" not in told
        assert {name: told[name] for name in ("iss", "sub", "aud", "auth_time")} == {
            name: first[name] for name in ("iss", "sub", "aud", "auth_time")
        }
        assert told["iat"] == claims(answer["access_token"])["iat"] >= first["iat"]


# RFC 8707


@pytest.mark.parametrize("grant", ["authorization_code", "device_code"])
async def test_rfc8707_2_2_a_code_is_redeemed_for_a_part_of_what_was_granted(callers: Callers, grant: str) -> None:
    """The access token is for that part, the refresh token for all of it; what was not granted costs no code."""
    app, login, granted = callers.app, callers.login, ["https://a.example", "https://b.example"]
    request = (
        redemption(await code_for(login, "app", resource=granted))
        if grant == "authorization_code"
        else poll(await _device_code_for(app, login, granted))
    )
    for target in ("https://evil.example", "not a uri"):
        assert (await app.ask("token", request | {"resource": target}))["error"] == "invalid_target"
    first = await app.ask("token", request | {"resource": granted[0]})
    assert claims(first["access_token"])["aud"] == granted[0]
    assert claims((await app.refresh(first["refresh_token"]))["access_token"])["aud"] == granted


async def _device_code_for(app: Caller, login: Caller, resource: list[str]) -> str:
    started = await app.ask("device_authorization", {"resource": resource})
    assert await login.ask("authorize", {"user_code": started["user_code"], "sub": "alice", "approved": True}) == {}
    return str(started["device_code"])


# RFC 7591, RFC 8414


async def test_rfc7591_a_tenant_sets_how_its_clients_authenticate(workspace: Workspace) -> None:
    """CONTRACT §4: a default for every client that does not say otherwise; no secret is made where none is used."""
    await workspace.settings(token_endpoint_auth_method="none", redirect_uris=[REDIRECT])
    assert await workspace.register("mobile", secret=True) == ""
    assert await workspace.register("web", secret=True, token_endpoint_auth_method="client_secret_post") != ""
    rotating = {"client_id": "mobile", "refresh_token_rotation": "reuse"}
    assert "must rotate" in (await workspace.refused("client.put", **rotating))["error_description"]


async def test_rfc8414_3_who_is_to_verify_a_token_learns_its_issuers_keys(
    workspace: Workspace, callers: Callers
) -> None:
    """The tenant's clients, and every role of `heirloom url`; another tenant's clients have no business there."""
    subjects = [f"oauth.{workspace.name}.public.{what}" for what in ("jwks", "metadata")]
    async with AsyncExitStack() as stack:
        roles = [await stack.enter_async_context(workspace.service.role(role)) for role in SHOWN]
        stranger = await stack.enter_async_context(workspace.service.client("web", "acme"))
        for caller in (*roles, Caller(callers.app.connection, "")):
            keys, metadata = [await caller.ask(subject, {}) for subject in subjects]
            assert keys["keys"] and metadata["issuer"] == workspace.issuer
        for subject in subjects:
            with pytest.raises(NatsTimeoutError):
                await stranger.connection.request(subject, b"{}", timeout=0.3)
