"""How client authentication is parsed, and how secrets and assertions are verified."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from nats.errors import TimeoutError
from nats.js.errors import APIError

from events.aggregates import client as client_events
from events.aggregates import key as key_events
from events.aggregates import settings as tenant_events
from events.aggregates.aggregate_names import Aggregate
from events.aggregates.commit import VERSION, Codec, Commit
from events.aggregates.settings import ClientSettings, TenantSettings
from events.bus.connection import Connection
from events.log.grammar import read_commit
from events.log.jetstream_api import Unavailable
from events.log.log import Head, Log
from events.log.stored_message import StoredMessage
from service import clock
from service.clients.assertion import ASSERTION_TYPE, SEQUENCE_CONFLICTS, AssertionClaims, UsedAssertions, bucket, read
from service.clients.authentication import ByAssertion, ByName, ByPassword, BySecret, ClientAuthentication, client_proof
from service.context import Context
from service.endpoints.endpoint_table import ENDPOINTS, endpoints
from service.errors import OAuthError
from service.keys.derived_password import client_password
from service.keys.generated_secret import digest, new_secret
from service.keys.keyring import Keyring
from service.keys.signing_key import SigningKey
from service.registry.registry import Registry
from service.request import Checked, Request
from service.request_rates import LOOKS_PER_SECOND, RequestRates

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
    """A compact JWS made by hand, for the library refuses to make some of these."""

    def part(value: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signing_input = part({"alg": alg} | (header or {})) + b"." + part(claims)
    if alg == "HS256":  # the public key is used as a shared secret
        signature = hmac.digest(json.dumps(key.as_dict(private=False)).encode(), signing_input, "sha256")
    else:
        signature = jws.JWSRegistry.algorithms[alg].sign(signing_input, key)
    return (signing_input + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def _jwks(*keys: Key) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def test_every_client_endpoint_exists_at_the_edge() -> None:
    """The edge's subjects are derived from the table; public endpoints are not repeated there."""
    edge = {row.subject for row in endpoints().values() if row.authenticates_client}
    assert edge == {f"oauth.*.edge.{name}" for name, row in ENDPOINTS.items() if ".client." in row.subject}


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
    """RFC 6749 §2.3.1: id and secret are form-encoded; the names of header and scheme ignore case."""
    assert client_proof("token", _basic(sent), {}) == BySecret("client_secret_basic", client_id, secret)
    lower = {"authorization": _basic(sent)["Authorization"].replace("Basic", "bAsIc")}
    assert client_proof("token", lower, {"client_id": "web"}) == BySecret("client_secret_basic", client_id, secret)


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
def test_a_malformed_authorization_header(headers: dict[str, str]) -> None:
    """It is `invalid_client`, always with the same description."""
    with pytest.raises(OAuthError) as refused:
        client_proof("token", headers, {"client_id": "web"})
    assert (refused.value.code, refused.value.description) == ("invalid_client", "client authentication failed")


TEXT = _signed(KEYS["ES256"], "ES256")


ASSERTED = {"client_assertion": TEXT, "client_assertion_type": ASSERTION_TYPE}
SEVERAL, HALF = "by one method, not by several", "belong together"


@pytest.mark.parametrize(
    ("headers", "parameters", "why"),
    [
        (_basic("web:x"), {"client_secret": "x"}, SEVERAL),
        (_basic("web:x"), ASSERTED, SEVERAL),
        (_basic("web:x"), {"client_assertion_type": ASSERTION_TYPE}, SEVERAL),
        (_basic("web:x") | {"authorization": "Basic eDp5"}, {}, ""),
        ({}, ASSERTED | {"client_secret": "x"}, SEVERAL),
        ({}, {"client_assertion": TEXT}, HALF),
        ({}, {"client_assertion_type": ASSERTION_TYPE}, HALF),
        ({}, {"client_id": 5}, "client_id must be a string"),
        ({}, {"client_id": "web", "client_secret": ["x"]}, "client_secret must be a string"),
    ],
)
def test_several_methods_or_half_a_method(headers: dict[str, str], parameters: dict[str, Any], why: str) -> None:
    """RFC 6749 §2.3, §5.2: `invalid_request`, with a reason that discloses nothing about a client."""
    with pytest.raises(OAuthError, match=f"^invalid_request: .*{why}"):
        client_proof("token", headers, parameters)


def test_methods_in_the_body() -> None:
    """Secret, assertion, or name alone; without any of them it is `invalid_client`."""
    assert client_proof("token", {}, {"client_id": "web"}) == ByName("web")
    post = {"client_id": "web", "client_secret": "x", "client_assertion": None}
    assert client_proof("token", {}, post) == BySecret("client_secret_post", "web", "x")
    found = client_proof("token", {}, ASSERTED)
    assert isinstance(found, ByAssertion) and found.client_id == found.assertion.claims.sub == "web"
    unlike = ASSERTED | {"client_id": "other"}, ASSERTED | {"client_assertion_type": "x"}
    for wrong in ({}, {"client_secret": "x"}, *unlike):
        with pytest.raises(OAuthError, match="invalid_client"):
            client_proof("token", {}, wrong)


def test_the_client_id_of_authorize_names_another_client() -> None:
    """It names the client that gets the code, never the caller."""
    assert client_proof("authorize", _basic("login:x"), {"client_id": "web"}) == BySecret(
        "client_secret_basic", "login", "x"
    )
    with pytest.raises(OAuthError, match="invalid_client"):
        client_proof("authorize", {}, {"client_id": "web", "client_secret": "x"})


@pytest.mark.parametrize("alg", KEYS)
def test_assertions_with_every_algorithm(alg: str) -> None:
    """They verify with the right key, with or without its `kid`, and never with another key."""
    key, other = KEYS[alg], KEYS["PS256" if alg != "PS256" else "RS256"]
    headers: list[dict[str, Any]] = [{}, {"kid": key.thumbprint()}, {"typ": "client-authentication+jwt"}]
    for header in headers:
        assertion = read(_signed(key, alg, header))
        assert assertion is not None
        assert assertion.is_signed_by(_jwks(other, key))
        assert not assertion.is_signed_by(_jwks(other))
    unknown = read(_signed(key, alg, {"kid": "unknown"}))
    assert unknown is not None and not unknown.is_signed_by(_jwks(key))


@pytest.mark.parametrize(("alg", "other"), [("PS256", "RS256"), ("RS256", "PS256")])
def test_a_key_verifies_nothing_under_another_algorithm(alg: str, other: str) -> None:
    """RFC 8725 §3.1: the `alg` of a key is its only algorithm."""
    key = KEYS[alg]
    keys = {"keys": [key.as_dict(private=False) | {"alg": alg}]}
    for used in (alg, other):
        assertion = read(_signed(key, used))
        assert assertion is not None and assertion.is_signed_by(keys) is (used == alg)


def test_assertions_with_a_forbidden_header() -> None:
    """RFC 8725: no key from the token, no extension, no unlisted algorithm; malformed texts are refused too."""
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
    """It has another payload under the same signature, or no signature."""
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
def test_the_claims_of_an_assertion(change: dict[str, Any], good: bool) -> None:
    """RFC 7523 §3, with at most ten minutes of lifetime and 30 seconds of leeway for clocks that run ahead."""
    claims = msgspec.convert(GOOD | change, AssertionClaims)
    assert claims.are_good("web", (ISSUER,), NOW) is good


async def test_each_client_has_its_own_assertion_ids() -> None:
    """RFC 7523 §3: clients of one name in two tenants, and two clients of one tenant, may use the same `jti`."""
    kept: set[str] = set()

    async def publish(subject: str, body: bytes, **_: object) -> None:
        assert body == b""
        if subject in kept:
            raise APIError(code=400, err_code=SEQUENCE_CONFLICTS[0])
        kept.add(subject)

    connection = SimpleNamespace(jetstream=lambda: SimpleNamespace(publish=publish))
    used = UsedAssertions(cast("Any", connection))
    names = [("acme", "web", "1"), ("globex", "web", "1"), ("acme", "app", "1"), ("acme", "web", "2")]
    names += [("acme", "we", "b1"), ("acme", "web1", "")]
    for first in (True, False):
        assert [await used.use(*name) for name in names] == [first] * len(names)
    assert not [subject for subject in kept if "acme" in subject or "web" in subject], "only digests are stored"


class _CountingLog:
    """A log whose newest commit is `newest`; it counts the reads and their aggregates."""

    def __init__(self) -> None:
        self.looks, self.newest, self.asked = 0, cast("StoredMessage | None", None), set[str]()

    async def head(self, aggregate: Aggregate) -> Head:
        self.looks += 1
        self.asked.add(aggregate.live)
        found = None if self.newest is None else read_commit(self.newest)
        assert found is None or isinstance(found, Commit)
        return Head(self.newest, found, 0 if self.newest is None else self.newest.seq)


def _commit(codec: Codec[Any, Any], subject: str, seq: int, event: Any, state: Any) -> StoredMessage:
    commit = Commit(VERSION, "id", clock.now(), "operator", None, 0, (event,), state)
    return StoredMessage(seq, subject, codec.encode(commit))


def _authentication(
    secret: str, now: Callable[[], float] = time.monotonic
) -> tuple[ClientAuthentication, _CountingLog]:
    """Authentication at a replica that knows tenant `acme` with client `web`, and its log."""
    log = _CountingLog()
    registry = Registry(cast("Log", log), Keyring({1: b"k" * 32}))
    settings = TenantSettings()
    configured = tenant_events.TenantConfigured(settings), tenant_events.TenantState(settings)
    registry.apply(_commit(tenant_events.codec, "tokens.acme.tenant", 1, *configured))
    kid = SigningKey(Keyring({1: b"k" * 32}), "acme", 1, 0, "ES256").kid
    key = key_events.KeyActivated(), key_events.KeyState("ES256", 1, 0, {}, "active")
    registry.apply(_commit(key_events.codec, f"tokens.acme.key.{kid}", 2, *key))
    issued = client_events.ClientSecretIssued(digest(secret)), client_events.ClientState(secret_hash=digest(secret))
    registry.apply(_commit(client_events.codec, "tokens.acme.client.web", 3, *issued))
    registry.current_until = asyncio.get_running_loop().time() + 3600
    context = cast("Context", SimpleNamespace(log=log, registry=registry, rates=RequestRates(registry, now)))
    return ClientAuthentication(context, cast("UsedAssertions", None)), log


@pytest.mark.parametrize("client_id", ["web", "nobody"])
async def test_a_wrong_secret_counts_once(client_id: str) -> None:
    """It costs one read of the log, within the tenant's rate of reads, also for an unknown client."""
    authentication, log = _authentication(new_secret(), now=lambda: 1000.0)
    codes = []
    for _ in range(LOOKS_PER_SECOND + 1):
        with pytest.raises(OAuthError) as refused:
            await authentication.prove("acme", BySecret(None, client_id, "guess"))
        codes.append(refused.value.code)
    assert codes == ["invalid_client"] * LOOKS_PER_SECOND + ["slow_down"]
    assert log.looks == LOOKS_PER_SECOND


async def test_wrong_secrets_lock_nobody_out() -> None:
    """RFC 6749 §10.10: after any number of wrong secrets the right one is accepted without a read."""
    secret = new_secret()
    authentication, log = _authentication(secret)
    for number in range(1000):
        with pytest.raises(OAuthError, match="invalid_client"):
            await authentication.prove("acme", BySecret(None, "web", f"guess {number}"))
    log.looks = 0
    await authentication.prove("acme", BySecret(None, "web", secret))
    assert log.looks == 0


@pytest.mark.parametrize(("tenant", "client_id"), [("acme", "web"), ("acme", "nobody"), ("nobody", "web")])
async def test_a_guess_discloses_no_names(tenant: str, client_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 6749 §10.10: an unknown tenant or client costs one comparison and one read, as a wrong secret does."""
    authentication, log = _authentication(new_secret())
    compared: list[tuple[int, int]] = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return False

    monkeypatch.setattr(hmac, "compare_digest", counting)
    with pytest.raises(OAuthError) as refused:
        await authentication.prove(tenant, BySecret(None, client_id, "guess"))
    assert refused.value.description == "client authentication failed"
    assert compared == [(50, 50)] and log.looks == 1


BY_KEY = ClientSettings(token_endpoint_auth_method="private_key_jwt", jwks=_jwks(KEYS["ES256"]))
OTHERS: dict[str, client_events.ClientState] = {
    "signer": client_events.ClientState(BY_KEY, secret_hash=digest("secret")),
    "keyless": client_events.ClientState(ClientSettings(token_endpoint_auth_method="private_key_jwt")),
    "app": client_events.ClientState(ClientSettings(token_endpoint_auth_method="none"), secret_hash=digest("secret")),
    "post": client_events.ClientState(
        ClientSettings(token_endpoint_auth_method="client_secret_post"), secret_hash=digest("secret")
    ),
    "both": client_events.ClientState(ClientSettings(jwks=_jwks(KEYS["ES256"])), secret_hash=digest("secret")),
    "gone": client_events.ClientState(secret_hash=digest("secret"), disabled=True),
    "gone app": client_events.ClientState(ClientSettings(token_endpoint_auth_method="none"), disabled=True),
}


class _Used:
    """The assertions used at any replica, as `UsedAssertions`."""

    def __init__(self) -> None:
        self.known: set[tuple[str, ...]] = set()
        self.asked = 0

    async def use(self, *name: str) -> bool:
        self.asked += 1
        first = name not in self.known
        self.known.add(name)
        return first


def _world() -> tuple[ClientAuthentication, _CountingLog, _Used]:
    """As `_authentication`, with clients of every kind."""
    authentication, log = _authentication("secret")
    registry, used = authentication._context.registry, _Used()
    for seq, (client_id, state) in enumerate(OTHERS.items(), 10):
        event = client_events.ClientConfigured(state.settings)
        registry.apply(_commit(client_events.codec, f"tokens.acme.client.{client_id}", seq, event, state))
    return ClientAuthentication(authentication._context, cast("UsedAssertions", used)), log, used


def _assertion(client_id: str, key: Key = KEYS["ES256"], **claims: Any) -> ByAssertion:
    now = clock.now().timestamp()
    good = {"iss": client_id, "sub": client_id, "aud": "urn:heirloom:acme", "exp": now + 60, "jti": "1"}
    assertion = read(_signed(key, "ES256", None, good | claims))
    assert assertion is not None
    return ByAssertion(client_id, assertion)


async def test_an_assertion_proves_its_client_once() -> None:
    """RFC 7523 §3: for the issuer or the token endpoint, signed by a registered key, and not yet used."""
    authentication, log, used = _world()
    await authentication.prove("acme", _assertion("signer"))
    assert used.known == {("acme", "signer", "1")} and log.looks == 0
    await authentication.prove("acme", _assertion("signer", aud="nats:oauth.acme.edge.token", jti="2"))
    for wrong in (
        _assertion("signer"),
        _assertion("signer", jti="3", aud="nats:oauth.globex.edge.token"),
        _assertion("signer", jti="4", exp=clock.now().timestamp() - 1),
        _assertion("signer", ECKey.generate_key("P-256"), jti="5"),
        _assertion("keyless", jti="6"),
        _assertion("web", jti="7"),
        _assertion("app", jti="8"),
        _assertion("both", jti="11"),
        _assertion("nobody", jti="9"),
    ):
        with pytest.raises(OAuthError, match="invalid_client"):
            await authentication.prove("acme", wrong)
    with pytest.raises(OAuthError, match="invalid_client"):
        await authentication.prove("nowhere", _assertion("signer", jti="10"))
    assert {jti for *_, jti in used.known} == {"1", "2"}, "only the client itself can use up its assertions"


async def test_a_refused_assertion_is_checked_once() -> None:
    """The log has no newer registration, so neither the client's rate nor the broker is used a second time."""
    authentication, log, used = _world()
    tenant = authentication._context.registry.known_tenant("acme")
    assert tenant is not None
    log.newest = tenant.clients["signer"].stored
    await authentication.prove("acme", _assertion("signer"))
    with pytest.raises(OAuthError, match="invalid_client"):
        await authentication.prove("acme", _assertion("signer"))
    assert (log.looks, used.asked) == (1, 2)


async def test_assertions_have_a_rate_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker stores each assertion, so the client that signs them has a rate for them alone."""
    authentication, _, used = _world()
    monkeypatch.setattr("service.request_rates.ASSERTIONS_PER_SECOND", 1)
    codes = []
    for number in range(5):
        try:
            await authentication.prove("acme", _assertion("signer", jti=str(number)))
        except OAuthError as refused:
            codes.append(refused.code)
    assert "slow_down" in codes and len(used.known) < 5
    await authentication.prove("acme", BySecret(None, "web", "secret"))


@pytest.mark.parametrize(
    "endpoint", ["token", "revoke", "device_authorization", "introspect", "authorize", "issue", ""]
)
async def test_a_name_alone_authenticates_a_public_client_at_three_endpoints(endpoint: str) -> None:
    """RFC 6749 §2.1: never a client that has another method, or is disabled."""
    authentication, _, _ = _world()
    may = endpoint in ("token", "revoke", "device_authorization")
    for client_id in ("app", "web", "signer", "gone app", "nobody"):
        if may and client_id == "app":
            await authentication.prove("acme", ByName(client_id), endpoint)
            continue
        with pytest.raises(OAuthError, match="invalid_client"):
            await authentication.prove("acme", ByName(client_id), endpoint)


async def test_a_secret_is_accepted_only_by_the_registered_method() -> None:
    """RFC 7591 §2 `token_endpoint_auth_method`; a connection to the broker has only one way to send a secret."""
    authentication, _, _ = _world()
    for method, client_id, good in (
        ("client_secret_basic", "web", True),
        ("client_secret_post", "post", True),
        (None, "web", True),
        (None, "post", True),
        ("client_secret_post", "web", False),
        ("client_secret_basic", "post", False),
        (None, "signer", False),
        (None, "app", False),
        (None, "gone", False),
        ("client_secret_basic", "gone", False),
    ):
        proof = BySecret(cast("Any", method), client_id, "secret")
        if good:
            await authentication.prove("acme", proof)
            continue
        with pytest.raises(OAuthError, match="invalid_client"):
            await authentication.prove("acme", proof)


async def test_a_new_secret_works_at_once_and_only_a_newer_registration_counts() -> None:
    """Before it refuses a secret, a replica reads this client's last commit from the log."""
    authentication, log, _ = _world()
    state = client_events.ClientState(secret_hash=digest("new"))
    new = client_events.ClientSecretIssued(digest("new")), state
    for seq in (2, 3):  # the replica knows sequence 3
        log.newest = _commit(client_events.codec, "tokens.acme.client.web", seq, *new)
        with pytest.raises(OAuthError, match="invalid_client"):
            await authentication.prove("acme", BySecret(None, "web", "new"))
    log.newest = _commit(client_events.codec, "tokens.acme.client.web", 4, *new)
    with pytest.raises(OAuthError, match="invalid_client"):
        await authentication.prove("acme", BySecret(None, "web", "guess"))
    await authentication.prove("acme", BySecret(None, "web", "new"))
    assert (log.looks, log.asked) == (3, {"tokens.acme.client.web"}), "the third read found the newer one"
    with pytest.raises(OAuthError, match="invalid_client"):
        await authentication.prove("acme", BySecret(None, "web", "secret"))


CLIENT_KEY = b"c" * 32


async def test_a_client_connects_with_its_secret_or_its_derived_password() -> None:
    """The derived password works with every method; a disabled client has neither."""
    authentication, _, _ = _world()
    for client_id, by_password, by_secret in (
        ("web", True, True),
        ("post", True, True),
        ("signer", True, False),
        ("keyless", True, False),
        ("app", True, False),
        ("gone", False, False),
        ("gone app", False, False),
        ("nobody", False, False),
    ):
        computed = client_password(CLIENT_KEY, "acme", client_id)
        for tenant, password, good in (
            ("acme", computed, by_password),
            ("acme", "secret", by_secret),
            ("acme", "guess", False),
            ("acme", "", False),
            ("acme", client_password(b"d" * 32, "acme", client_id), False),
            ("acme", client_password(CLIENT_KEY, "globex", client_id), False),
            ("acme", client_password(CLIENT_KEY, "acme", "another"), False),
            ("acme", client_password(CLIENT_KEY, "acme", client_id, clock.now()), False),
            ("nowhere", client_password(CLIENT_KEY, "nowhere", client_id), False),
            ("nowhere", client_password(CLIENT_KEY, "", client_id), False),
        ):
            try:
                found = await authentication.prove(tenant, ByPassword(client_id, password, CLIENT_KEY))
            except OAuthError as refused:
                assert not good and refused.code in ("invalid_client", "slow_down")
            else:
                assert good and found.client_id == client_id


async def test_disabling_a_client_changes_its_derived_password() -> None:
    """It stays changed once the client is enabled again (`events.aggregates.client`)."""
    authentication, _, _ = _world()
    since = clock.now()
    state = client_events.ClientState(void_until=since)
    event = client_events.ClientConfigured(state.settings)
    authentication._context.registry.apply(_commit(client_events.codec, "tokens.acme.client.back", 100, event, state))
    await authentication.prove(
        "acme", ByPassword("back", client_password(CLIENT_KEY, "acme", "back", since), CLIENT_KEY)
    )
    with pytest.raises(OAuthError, match="invalid_client"):
        await authentication.prove("acme", ByPassword("back", client_password(CLIENT_KEY, "acme", "back"), CLIENT_KEY))


async def test_the_edge_adds_the_client_to_a_request() -> None:
    """Tenant, body and headers stay; the body is not checked a second time."""
    authentication, _, _ = _world()
    body, headers = b'{"grant_type":"x"}', _basic("web:secret")
    found = await authentication.authenticate(Request("acme", "", body, headers), "token")
    assert found == Request("acme", "web", body, headers) and isinstance(found.body, Checked)
    named = b'{"client_id":"app"}'
    assert (await authentication.authenticate(Request("acme", "", named, {}), "token")).client_id == "app"
    by_login = Request("acme", "", named, headers)
    assert (await authentication.authenticate(by_login, "authorize")).client_id == "web", (
        "there it names another client"
    )
    with pytest.raises(OAuthError, match="invalid_client"):
        await authentication.authenticate(Request("acme", "", named, {}), "introspect")
    with pytest.raises(OAuthError, match="invalid_client"):
        await authentication.authenticate(Request("acme", "", body, _basic("web:wrong")), "token")
    with pytest.raises(OAuthError, match="invalid_request"):
        await authentication.authenticate(Request("acme", "", b"[]", headers), "token")


def test_the_bucket_of_used_assertions_keeps_all_that_are_still_valid() -> None:
    """Neither age nor number removes one early, and entries are neither deleted nor overwritten."""
    assert bucket(3, 300) == {
        "name": "KV_heirloom-assertions",
        "subjects": ["$KV.heirloom-assertions.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": 3,
        "discard": "new",
        "compression": "none",
        "max_age": 1500 * 10**9,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": 1,
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": True,
    }


async def test_a_bucket_of_an_earlier_version_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `max_age` depends on the clock tolerance, which may change."""
    asked: list[Any] = []

    async def ensure(*made: Any, **how: Any) -> None:
        asked.extend((*made, how))

    monkeypatch.setattr("service.clients.assertion.ensure_exactly", ensure)
    connection = cast("Any", SimpleNamespace(jetstream=lambda: None))
    await UsedAssertions(connection).start(3, 300)
    assert asked == [connection, bucket(3, 300), {"mends": True}]


async def test_an_assertion_used_on_one_replica_is_used_on_all(connection: Connection) -> None:
    """Also when both replicas use it at once: the broker decides (RFC 7523 §3)."""
    replicas = [UsedAssertions(connection) for _ in range(2)]
    for replica in replicas:
        await replica.start(1, 300)
    assert sorted(await asyncio.gather(*(replica.use("acme", "web", "1") for replica in replicas))) == [False, True]
    assert await replicas[0].use("acme", "web", "2")


@pytest.mark.parametrize("error", [APIError(code=503, err_code=10077), TimeoutError()], ids=["refused", "silent"])
async def test_an_assertion_that_cannot_be_stored_proves_nothing(error: Exception) -> None:
    """Else another replica would accept it too. The client may retry."""
    asked: list[dict[str, Any]] = []

    async def publish(_subject: str, _body: bytes, **options: Any) -> None:
        asked.append(options)
        raise error

    connection = SimpleNamespace(jetstream=lambda: SimpleNamespace(publish=publish))
    with pytest.raises(Unavailable, match="assertions cannot be remembered now"):
        await UsedAssertions(cast("Any", connection)).use("acme", "web", "1")
    assert asked == [{"timeout": 1, "headers": {"Nats-Expected-Last-Subject-Sequence": "0"}}]


def test_an_authorization_header_is_read_exactly() -> None:
    """RFC 7235 §2.1: up to the longest, with several spaces; a character outside of the alphabet is refused."""
    longest = base64.b64encode(b"web:" + b"x" * 3068).decode()
    assert len(longest) == 4096
    assert client_proof("token", {"Authorization": "Basic " + longest}, {}).client_id == "web"
    assert client_proof("token", {"Authorization": "Basic  " + longest[:8]}, {}).client_id == "web"
    text = base64.b64encode(b"web:secret").decode()
    with pytest.raises(OAuthError, match="invalid_client"):
        client_proof("token", {"Authorization": f"Basic {text[:4]}!{text[4:]}"}, {})


async def test_a_correct_secret_needs_no_read() -> None:
    """Guesses use up their tenant's reads, and not another tenant's."""
    authentication, log = _authentication("secret", now=lambda: 1000.0)
    for client_id in ("nobody", *["web"] * LOOKS_PER_SECOND):
        with pytest.raises(OAuthError):
            await authentication.prove("acme", BySecret(None, client_id, "guess"))
    with pytest.raises(OAuthError, match="slow_down"):
        await authentication.prove("acme", BySecret(None, "nobody", "guess"))
    await authentication.prove("acme", BySecret(None, "web", "secret"))
    with pytest.raises(OAuthError, match="invalid_client"):
        await authentication.prove("globex", BySecret(None, "web", "secret"))
    assert log.looks == LOOKS_PER_SECOND + 1


async def test_a_newer_registration_counts_whatever_its_method() -> None:
    """For example of a client that just became public, or just got keys."""
    authentication, log, _ = _world()
    public = client_events.ClientState(ClientSettings(token_endpoint_auth_method="none"))
    for seq, state, proof in (
        (100, public, ByName("web")),
        (101, client_events.ClientState(BY_KEY), _assertion("web")),
    ):
        event = client_events.ClientConfigured(state.settings)
        log.newest = _commit(client_events.codec, "tokens.acme.client.web", seq, event, state)
        await authentication.prove("acme", proof, "token")
