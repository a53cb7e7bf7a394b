"""What a request may carry to prove its client, read strictly; secrets verified with care; assertions judged."""

import asyncio
import base64
import hmac
import json
import threading
from typing import Any

import msgspec
import pytest
from argon2 import extract_parameters
from argon2.exceptions import VerifyMismatchError
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from service.client_assertion import ASSERTION_TYPE, Claims, read
from service.client_authentication import ByAssertion, ByName, BySecret, presented
from service.client_secret import (
    FIRST_PAUSE_SECONDS,
    FREE_FAILURES,
    LONGEST_PAUSE_SECONDS,
    NOBODY,
    REMEMBERED_SECONDS,
    WAITING_PER_CLIENT,
    Account,
    Secrets,
    decoy,
    hasher,
)
from service.errors import OAuthError
from service.server import ENDPOINTS, endpoints

NOW = 1_800_000_000.0
ISSUER = "https://acme.example"
GOOD: dict[str, Any] = {"iss": "web", "sub": "web", "aud": ISSUER, "exp": NOW + 60, "jti": "1"}
KEYS: dict[str, Key] = {
    "ES256": ECKey.generate_key("P-256"),
    "Ed25519": OKPKey.generate_key("Ed25519"),
    "EdDSA": OKPKey.generate_key("Ed25519"),
    "PS256": RSAKey.generate_key(2048),
    "RS256": RSAKey.generate_key(2048),
}


def _basic(text: str | bytes) -> dict[str, str]:
    raw = text.encode() if isinstance(text, str) else text
    return {"Authorization": "Basic " + base64.b64encode(raw).decode()}


def _signed(key: Key, alg: str, header: dict[str, Any] | None = None, claims: dict[str, Any] = GOOD) -> str:
    """A compact JWS, made by hand: the library would refuse to make some of these."""

    def part(value: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signing_input = part({"alg": alg} | (header or {})) + b"." + part(claims)
    if alg == "HS256":  # the public key taken for a secret
        signature = hmac.digest(json.dumps(key.as_dict(private=False)).encode(), signing_input, "sha256")
    else:
        signature = jws.JWSRegistry.algorithms[alg].sign(signing_input, key)
    return (signing_input + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def _jwks(*keys: Key) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def test_every_endpoint_of_a_client_answers_at_the_edge() -> None:
    """The edge's subjects follow from the table; those for anyone are not doubled."""
    edge = {subject for name, (subject, _) in endpoints().items() if name.startswith("edge-")}
    assert edge == {f"oauth.*.edge.{name}" for name, (subject, _) in ENDPOINTS.items() if ".client." in subject}


@pytest.mark.parametrize(
    ("sent", "client_id", "secret"),
    [
        ("web:s3cret", "web", "s3cret"),
        ("%77eb:s%3A%25", "web", "s:%"),
        ("web:a+b", "web", "a b"),
        ("web:a:b", "web", "a:b"),
        ("web:", "web", ""),
    ],
)
def test_basic(sent: str, client_id: str, secret: str) -> None:
    """RFC 6749 §2.3.1: id and secret are encoded as in a form; the header's name and scheme in any case."""
    assert presented("token", _basic(sent), {}) == BySecret("client_secret_basic", client_id, secret)
    lower = {"authorization": _basic(sent)["Authorization"].replace("Basic", "bAsIc")}
    assert presented("token", lower, {"client_id": "web"}) == BySecret("client_secret_basic", client_id, secret)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!!"},
        {"Authorization": "Bearer d2ViOngK"},
        {"Authorization": "Basic " + "YWFh" * 2000},
        _basic("web"),
        _basic(b"web:\xff"),
        _basic("web:%ff"),
        _basic("other:secret"),
    ],
    ids=["empty", "alone", "not base64", "Bearer", "long", "no colon", "not UTF-8", "not UTF-8 inside", "another"],
)
def test_an_authorization_that_cannot_be_read(headers: dict[str, str]) -> None:
    """`invalid_client`, in the same words whatever was wrong."""
    with pytest.raises(OAuthError) as refused:
        presented("token", headers, {"client_id": "web"})
    assert (refused.value.code, refused.value.description) == ("invalid_client", "client authentication failed")


TEXT = _signed(KEYS["ES256"], "ES256")


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        (_basic("web:x"), {"client_secret": "x"}),
        (_basic("web:x"), {"client_assertion": TEXT, "client_assertion_type": ASSERTION_TYPE}),
        (_basic("web:x"), {"client_assertion_type": ASSERTION_TYPE}),
        (_basic("web:x") | {"authorization": "Basic eDp5"}, {}),
        ({}, {"client_secret": "x", "client_assertion": TEXT, "client_assertion_type": ASSERTION_TYPE}),
        ({}, {"client_assertion": TEXT}),
        ({}, {"client_assertion_type": ASSERTION_TYPE}),
        ({}, {"client_id": 5}),
        ({}, {"client_id": "web", "client_secret": ["x"]}),
    ],
)
def test_several_methods_or_half_a_method(headers: dict[str, str], parameters: dict[str, Any]) -> None:
    """`invalid_request` (RFC 6749 §2.3)."""
    with pytest.raises(OAuthError) as refused:
        presented("token", headers, parameters)
    assert refused.value.code == "invalid_request"


def test_the_methods_of_the_body() -> None:
    """Post, assertion, name alone; nothing at all is `invalid_client`."""
    assert presented("token", {}, {"client_id": "web"}) == ByName("web")
    post = {"client_id": "web", "client_secret": "x", "client_assertion": None}
    assert presented("token", {}, post) == BySecret("client_secret_post", "web", "x")
    signed = {"client_assertion": TEXT, "client_assertion_type": ASSERTION_TYPE}
    found = presented("token", {}, signed)
    assert isinstance(found, ByAssertion) and found.client_id == "web"
    for wrong in ({}, {"client_secret": "x"}, signed | {"client_id": "other"}, signed | {"client_assertion_type": "x"}):
        with pytest.raises(OAuthError, match="invalid_client"):
            presented("token", {}, wrong)


def test_the_client_id_of_authorize_is_another_clients() -> None:
    """It names who asks for the code, never the caller."""
    assert presented("authorize", _basic("login:x"), {"client_id": "web"}) == BySecret(
        "client_secret_basic", "login", "x"
    )
    with pytest.raises(OAuthError, match="invalid_client"):
        presented("authorize", {}, {"client_id": "web", "client_secret": "x"})


@pytest.mark.parametrize("alg", KEYS)
def test_assertions_of_every_algorithm(alg: str) -> None:
    """With the right key, by its name or without; never with another one."""
    key, other = KEYS[alg], KEYS["PS256" if alg != "PS256" else "RS256"]
    headers: list[dict[str, Any]] = [{}, {"kid": key.thumbprint()}, {"typ": "client-authentication+jwt"}]
    for header in headers:
        assertion = read(_signed(key, alg, header))
        assert assertion is not None
        assert assertion.is_signed_by(_jwks(other, key))
        assert not assertion.is_signed_by(_jwks(other))
    unknown = read(_signed(key, alg, {"kid": "unknown"}))
    assert unknown is not None and not unknown.is_signed_by(_jwks(key))


def test_assertions_whose_header_says_what_it_may_not() -> None:
    """RFC 8725: no key from the token, no extension, no algorithm that is not on the list."""
    key = KEYS["ES256"]
    unsigned = TEXT.rpartition(".")[0].partition(".")[2]
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    for text in (
        f"{none}.{unsigned}.",
        _signed(key, "HS256"),
        _signed(ECKey.generate_key("P-384"), "ES384"),
        _signed(key, "ES256", {"jku": "https://evil.example/jwks"}),
        _signed(key, "ES256", {"x5u": "https://evil.example/cert"}),
        _signed(key, "ES256", {"jwk": key.as_dict(private=False)}),
        _signed(key, "ES256", {"crit": ["exp"]}),
        _signed(key, "ES256", {"b64": True}),
        _signed(key, "ES256", {"typ": "at+jwt"}),
        _signed(key, "ES256", {"typ": 1}),
        _signed(key, "ES256", None, GOOD | {"exp": str(NOW)}),
        _signed(key, "ES256", None, {name: value for name, value in GOOD.items() if name != "exp"}),
        _signed(key, "ES256", None, {name: value for name, value in GOOD.items() if name != "jti"}),
        "",
        "a.b",
        "a.b.c",
        "é.é.é",
    ):
        assert read(text) is None


def test_a_changed_assertion() -> None:
    """Another payload under the same signature, or no signature."""
    head, payload, signature = TEXT.split(".")
    other = _signed(KEYS["ES256"], "ES256", None, GOOD | {"sub": "other"}).split(".")[1]
    for text in (f"{head}.{other}.{signature}", f"{head}.{payload}.", f"{head}.{payload}.AAAA"):
        assertion = read(text)
        assert assertion is not None and not assertion.is_signed_by(_jwks(KEYS["ES256"]))


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"aud": [ISSUER]}, True),
        ({"exp": NOW + 600}, True),
        ({"iat": NOW + 30, "nbf": NOW + 30}, True),
        ({"iat": NOW - 3600}, True),
        ({"iss": "other"}, False),
        ({"sub": "other"}, False),
        ({"iss": "other", "sub": "other"}, False),
        ({"aud": "https://evil.example"}, False),
        ({"aud": [ISSUER, "https://evil.example"]}, False),
        ({"aud": []}, False),
        ({"exp": NOW}, False),
        ({"exp": NOW + 601}, False),
        ({"iat": NOW + 31}, False),
        ({"nbf": NOW + 31}, False),
        ({"jti": ""}, False),
    ],
)
def test_claims(change: dict[str, Any], good: bool) -> None:
    """RFC 7523 §3, with a limit of ten minutes and 30 seconds of leeway for clocks that run ahead."""
    claims = msgspec.convert(GOOD | change, Claims)
    assert claims.are_good("web", (ISSUER,), NOW) is good


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class _Hashes:
    """Stands for Argon2id: a hash is right for the secret of the same text. Counts, and waits where told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.at_once = 0
        self.most_at_once = 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self, secret_hash: str, secret: str) -> bool:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.go.wait(5)
        self.at_once -= 1
        return secret_hash == secret


WEB = Account("acme", "web", "right")


async def test_a_right_secret_is_verified_once() -> None:
    """Remembered for its time, also under guessing; never for another hash, client, tenant or secret."""
    clock, hashes = _Clock(), _Hashes()
    secrets = Secrets(hashes, clock)
    assert all(await asyncio.gather(*(secrets.are_right(WEB, "right") for _ in range(64))))
    assert hashes.calls == 1
    for account in (WEB._replace(secret_hash="new"), WEB._replace(secret_hash=None)):
        assert not await secrets.are_right(account, "right")
    for _ in range(FREE_FAILURES):
        assert not await secrets.are_right(WEB, "wrong")
    with pytest.raises(OAuthError, match="invalid_client"):
        await secrets.are_right(WEB, "wrong")
    assert await secrets.are_right(WEB, "right")
    calls = hashes.calls
    clock.now += REMEMBERED_SECONDS
    assert not await secrets.are_right(WEB, "wrong")
    with pytest.raises(OAuthError, match="invalid_client"):
        await secrets.are_right(WEB, "wrong")
    assert await secrets.are_right(WEB, "right"), "verified anew, and not kept out by those who guess"
    assert hashes.calls == calls + 2


async def test_the_pause_grows_and_ends() -> None:
    """After free failures each further one doubles the pause, up to a limit; wrong secrets meanwhile cost nothing."""
    clock, hashes = _Clock(), _Hashes()
    secrets = Secrets(hashes, clock)
    for _ in range(FREE_FAILURES):
        assert not await secrets.are_right(WEB, "wrong")
    pause = FIRST_PAUSE_SECONDS
    for _ in range(8):
        calls = hashes.calls
        clock.now += pause - 0.1
        with pytest.raises(OAuthError, match="invalid_client"):
            await secrets.are_right(WEB, "wrong")
        assert hashes.calls == calls
        clock.now += 0.1
        assert not await secrets.are_right(WEB, "wrong")
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    assert not await secrets.are_right(WEB._replace(client_id="other"), "wrong"), "another client is not affected"
    clock.now += pause
    assert await secrets.are_right(WEB, "right")


async def test_clients_that_do_not_exist() -> None:
    """They are verified like others, and never right, not even with the decoy's own answer."""

    def always(_hash: str, _secret: str) -> bool:
        return True

    assert not await Secrets(always).are_right(NOBODY, "x")


def test_a_decoy_costs_what_a_hash_costs() -> None:
    """It has a real hash's parameters and lengths, and is looked through to its end: it differs, it is not invalid."""
    stored, made_up = hasher.hash("s3cret"), decoy()
    assert extract_parameters(made_up) == extract_parameters(stored)
    assert len(made_up) == len(stored) and decoy() != made_up
    with pytest.raises(VerifyMismatchError):
        hasher.verify(made_up, "s3cret")


async def test_verifications_are_bounded() -> None:
    """One of each client, two in all, a few of each client waiting; one more hears so at once."""
    hashes = _Hashes()
    secrets = Secrets(hashes, _Clock())
    hashes.go.clear()
    accounts = [WEB._replace(client_id=f"c{number}") for number in range(3)]
    running = [
        asyncio.create_task(secrets.are_right(account, f"wrong {number}"))
        for account in accounts
        for number in range(WAITING_PER_CLIENT)
    ]
    await asyncio.sleep(0)
    for account in accounts:
        with pytest.raises(OAuthError, match="temporarily_unavailable"):
            await secrets.are_right(account, "one more")
    hashes.go.set()
    assert not any(await asyncio.gather(*running))
    assert hashes.most_at_once <= 2
    assert await secrets.are_right(accounts[0], "right")


async def test_a_real_hash() -> None:
    """Argon2id, with the parameters secrets are stored with; what is no hash is no secret's."""
    secrets = Secrets()
    account = WEB._replace(secret_hash=hasher.hash("s3cret"))
    assert await secrets.are_right(account, "s3cret")
    assert not await secrets.are_right(account, "S3cret")
    assert not await secrets.are_right(WEB, "right")
