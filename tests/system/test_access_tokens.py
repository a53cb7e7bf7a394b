"""Access tokens: their claims (RFC 9068), their verification, and forgeries (RFC 8725)."""

import base64
import hmac
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, KeySet
from joserfc.jws import JWSRegistry

from service.keys import keyring
from service.keys.signing_key import SigningKey
from tests.system.service import Caller
from tests.system.workspace import (
    API,
    CHALLENGE,
    INACTIVE,
    OTHER_API,
    REDIRECT,
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


async def test_type_and_claims(workspace: Workspace, clients: Clients) -> None:
    """RFC 9068 §2: `typ: at+jwt` and every required claim, of every grant; no two access tokens share a `jti`."""
    app, login, orders = await clients.all("app", "login", "orders")
    first = await app.issue()
    answers = [
        first,
        await app.refresh(first["refresh_token"]),
        await app.ask("token", redemption(await code_for(login, "app"))),
        await app.ask("token", poll(await device_code(app, login))),
        await app.ask("token", {"grant_type": "client_credentials"}),
        await orders.ask("token", swap(first["access_token"])),
    ]
    for answer, sub, client_id in zip(answers, ["alice"] * 4 + ["app", "alice"], ["app"] * 5 + ["orders"], strict=True):
        assert _header(answer["access_token"])["typ"] == "at+jwt"
        told = claims(answer["access_token"])
        assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= set(told)
        assert (told["iss"], told["sub"], told["client_id"]) == (workspace.issuer, sub, client_id)
        assert told["iat"] <= time.time() < told["exp"] <= told["iat"] + 302
    assert len({claims(answer["access_token"])["jti"] for answer in answers}) == len(answers)


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
async def test_other_libraries_verify_the_tokens(workspace: Workspace, clients: Clients, algorithm: str) -> None:
    """RFC 9068 §4: PyJWT and joserfc, with the JWKS requested over the bus."""
    await workspace.settings(signing_alg="Ed25519" if algorithm == "EdDSA" else algorithm)
    app = await clients("app")
    if algorithm == "EdDSA":
        await workspace.order("key.rotate")
    tokens = await app.issue(scope="openid read")
    keys: Any = await Caller(app.connection, "").ask(f"oauth.{workspace.name}.public.jwks", {})
    header = jwt.get_unverified_header(tokens["access_token"])
    assert (header["typ"], header["alg"]) == ("at+jwt", algorithm)
    (jwk,) = [key for key in keys["keys"] if key["kid"] == header["kid"]]
    assert "d" not in jwk
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # RFC 9864 renames EdDSA; PyJWT knows only the old name
        key_set = KeySet.import_key_set(keys)
        verified = joserfc_jwt.decode(tokens["access_token"], key_set, algorithms=[algorithm]).claims
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= set(verified)
    for token, audience in ((tokens["access_token"], workspace.issuer), (tokens["id_token"], "app")):
        key = jwt.PyJWK(jwk)
        assert jwt.decode(token, key, algorithms=[algorithm], audience=audience, issuer=workspace.issuer)


@pytest.mark.parametrize("grant", ["issue", "client_credentials", "authorization_code", "device_code"])
async def test_a_resource_must_be_one_of_the_clients(workspace: Workspace, clients: Clients, grant: str) -> None:
    """RFC 8707 §2: in every grant only the issuer and the client's `audiences` are accepted."""
    web, login = await clients.all("web", "login")
    code = {"client_id": "web", "sub": "alice", "redirect_uri": REDIRECT, "code_challenge_method": "S256"}
    caller, endpoint, request = {
        "issue": (web, "issue", {"sub": "alice", "scope": SCOPE}),
        "client_credentials": (web, "token", {"grant_type": grant}),
        "authorization_code": (login, "authorize", code | {"code_challenge": CHALLENGE}),
        "device_code": (web, "device_authorization", dict[str, str]()),
    }[grant]
    before = await workspace.sequence()
    for wrong in (OTHER_API, [API, OTHER_API], f"{API}/"):
        assert (await caller.ask(endpoint, request | {"resource": wrong}))["error"] == "invalid_target"
    assert await workspace.sequence() == before
    for right in (None, API, workspace.issuer, [workspace.issuer, API]):
        assert "error" not in await caller.ask(endpoint, request | {"resource": right})


def _encoded(part: dict[str, Any] | bytes) -> bytes:
    """As base64url; an object without white space, as the service writes it."""
    raw = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
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
    """Signed with a stranger's key, which the header refers to."""
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
    """The same signature under another header."""
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


async def _nothing_comes_of(clients: Clients, workspace: Workspace, forged: str, real: str) -> None:
    """The token is inactive, and cannot be revoked, exchanged or refreshed; the real token stays active."""
    app, orders = clients["app"], clients["orders"]
    before = await workspace.sequence()
    assert await orders.ask("introspect", {"token": forged}) == INACTIVE
    assert await app.ask("revoke", {"token": forged}) == {}
    assert (await orders.ask("token", swap(forged)))["error"] == "invalid_request"
    assert (await app.refresh(forged))["error"] == "invalid_grant"
    assert await workspace.sequence() == before
    assert await orders.active(real)


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
async def test_forged_tokens(
    workspace: Workspace, clients: Clients, forge: Callable[[str, dict[str, Any]], str]
) -> None:
    """RFC 8725 §3: only the service's own key verifies, with its own algorithm."""
    app, _ = await clients.all("app", "orders")
    real = (await app.issue())["access_token"]
    published = await Caller(app.connection, "").ask(f"oauth.{workspace.name}.public.jwks", {})
    (jwk,) = [key for key in published["keys"] if key["kid"] == _header(real)["kid"]]
    await _nothing_comes_of(clients, workspace, forge(real, jwk), real)


async def test_a_valid_signature_alone_is_not_enough(workspace: Workspace, clients: Clients) -> None:
    """RFC 9068 §4, ADR 0027: a leaked key can sign anything; a token that was not issued is inactive.

    Whatever it claims: another `jti`, holder, actor, expiry or audience, with a genuine token's tag or without one.
    """
    app, orders = await clients.all("app", "orders")
    real = (await app.issue())["access_token"]
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
        await _nothing_comes_of(clients, workspace, key.sign(told | changes), real)
    untagged = {name: value for name, value in told.items() if name != "tag"}
    await _nothing_comes_of(clients, workspace, key.sign(untagged), real)
    assert await orders.active(key.sign(told))


def _signing_key(workspace: Workspace, kid: str) -> SigningKey:
    """The tenant's own signing key, to sign tokens with a valid signature."""
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
async def test_bad_headers_under_a_valid_signature(
    workspace: Workspace, clients: Clients, changes: dict[str, Any]
) -> None:
    """RFC 7515 §4.1.11 unknown `crit`, RFC 8725 §3.11 another `typ`, §3.1 an algorithm that is not the key's."""
    app, orders = await clients.all("app", "orders")
    real = (await app.issue())["access_token"]
    header, (_, payload, _signature) = _header(real), real.split(".")
    key = _signing_key(workspace, header["kid"])._key
    assert isinstance(key, ECKey)
    assert await orders.active(_signed(header, payload, key)), "the signature is valid"
    await _nothing_comes_of(clients, workspace, _signed(header | changes, payload, key), real)


async def test_an_id_token_is_no_access_token(workspace: Workspace, clients: Clients) -> None:
    """RFC 8725 §3.12: although the same key signed it for the same person."""
    app, _ = await clients.all("app", "orders")
    tokens = await app.issue(scope=SCOPE)
    await _nothing_comes_of(clients, workspace, tokens["id_token"], tokens["access_token"])
