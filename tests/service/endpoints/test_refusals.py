"""Refusals of endpoints and grants that do not reach a decision."""

import time
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from events.aggregates.client import ClientState
from events.aggregates.family import DEVICE_GRANT, FamilyState, fold
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    GrantAuthorized,
)
from events.aggregates.settings import ClientSettings, TenantSettings
from events.fairness.token_buckets import Buckets
from events.log.stored_message import StoredMessage
from service import clock
from service.context import Context
from service.decide.authorization_code import s256
from service.decide.decision import Decision
from service.endpoints import authorize, introspect, revoke, token
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.families.families import CommittedDecision, Count, Decide, count_nothing
from service.keys.keyring import Keyring
from service.keys.mac_tokens import MacTokens, new_id
from service.keys.signing_key import SigningKey
from service.registry.tenant import Client, Tenant
from service.request import Request
from tests.service.decide.given import at, given, opened

KEYS = Keyring({1: b"k" * 32})
AUDIENCE = ("https://acme.example",)
SCOPE = "read offline_access"
VERIFIER = "v" * 43
OTHER_SEED = "another"
"""A thief of the keyring alone makes tokens with another seed: with a right short tag and a wrong long tag."""


class World:
    """The tenant `acme` and one family, without a log; `written` are the events of its decisions."""

    def __init__(self, state: FamilyState | None = None) -> None:
        self.family_id, self.state = new_id(), state
        self.written: list[FamilyEvent] = []
        self.read_back = 0
        """How many of the family's earlier commits a decision needs."""
        self.tenant = Tenant("acme", KEYS)
        self.tenant.settings = TenantSettings(issuer=AUDIENCE[0])
        self.tenant.signing = SigningKey(KEYS, "acme", 1, 1, "ES256")
        self.register("web", may_authorize=True, grant_types=("authorization_code", DEVICE_GRANT, "refresh_token"))
        families = SimpleNamespace(load=self._load, decide=self._decide, buckets=Buckets())
        registry = SimpleNamespace(tenant=self._tenant, client=self._client)
        parts = SimpleNamespace(registry=registry, families=families, keyring=KEYS)
        parts.caller = partial(Context.caller, cast("Context", parts))
        self.context = cast("Context", parts)

    def register(self, client_id: str, *, disabled: bool = False, **settings: Any) -> None:
        """Register a client of the tenant."""
        registered = ClientSettings(**({"scope": SCOPE} | settings))
        state = ClientState(registered, disabled=disabled)
        stored = StoredMessage(1, f"tokens.acme.client.{client_id}", b"")
        self.tenant.clients[client_id] = Client(client_id, state, self.tenant.rules_of(registered), stored)

    def mint(self, kind: MacTokens, seed: str) -> str:
        """The family's token of number 0, or with another seed a forged one."""
        return kind.mint(1, self.family_id, 0, seed)

    def asks(self, parameters: dict[str, Any], client_id: str = "web") -> Request:
        """The request of this client."""
        return Request("acme", client_id, msgspec.json.encode(parameters), {})

    async def _tenant(self, _name: str) -> Tenant:
        return self.tenant

    async def _client(self, tenant: Tenant, client_id: str) -> Client | None:
        return tenant.clients.get(client_id)

    async def _load(self, *_: str) -> LoadedFamily:
        return LoadedFamily(1, None, self.state, True)

    async def _decide(
        self,
        _tenant: str,
        _family_id: str,
        _actor: str,
        decide: Decide,
        *,
        new: bool = False,
        count: Count = count_nothing,
    ) -> CommittedDecision:
        for _ in range(self.read_back):
            count()
        loaded = LoadedFamily(1, None, None if new else self.state, True)
        return self._conclude(loaded.state, decide(loaded, clock.now(), "id"))

    def _conclude(self, state: FamilyState | None, decision: Decision) -> CommittedDecision:
        if decision.events:
            self.written += decision.events
            state = self.state = fold(state, decision.events, clock.now())
        return CommittedDecision(self.family_id, decision.outcome, state, 2 if decision.events else 0)


@pytest.fixture(autouse=True)
def soon_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is five seconds after the start, so that codes and tokens are still valid."""
    monkeypatch.setattr(clock, "now", lambda: at(5))


def with_code() -> FamilyState:
    code = AuthorizationCodeIssued(at(60), s256(VERIFIER))
    return given((GrantAuthorized("web", "alice", SCOPE, AUDIENCE, "authorization_code", "seed"), code))


def approved() -> FamilyState:
    waits = DeviceAuthorizationStarted("web", SCOPE, AUDIENCE, "seed", at(600))
    return given((waits,), (GrantAuthorized("web", "alice", SCOPE, AUDIENCE, DEVICE_GRANT, "seed"),))


async def test_a_forged_token_is_inactive() -> None:
    """RFC 7662 §2.2: the keyring alone, without the family's seed, makes no valid token."""
    world = World(given(opened(scope=SCOPE)))
    genuine, forged = (world.mint(world.tenant.refresh_tokens, seed) for seed in ("seed", OTHER_SEED))
    assert world.tenant.refresh_tokens.recognise(forged) is not None, "its short tag is right"
    assert b'"active":true' in await introspect.handle(world.context, world.asks({"token": genuine}))
    assert await introspect.handle(world.context, world.asks({"token": forged})) == introspect.INACTIVE


async def test_a_forged_token_ends_no_family() -> None:
    """RFC 7009 §2.2: it is answered as an unknown token is, and nothing is appended."""
    world = World(given(opened(scope=SCOPE)))
    genuine, forged = (world.mint(world.tenant.refresh_tokens, seed) for seed in ("seed", OTHER_SEED))
    assert await revoke.handle(world.context, world.asks({"token": forged})) == revoke.DONE
    assert world.written == []
    assert await revoke.handle(world.context, world.asks({"token": genuine})) == revoke.DONE
    assert [type(event) for event in world.written] == [FamilyRevoked]


@pytest.mark.parametrize("kind", ["authorization code", "device code", "refresh token"])
async def test_a_forged_credential_gives_no_tokens_and_counts_as_no_reuse(kind: str) -> None:
    """RFC 6749 §10.3 to §10.5: refused without a commit, before and after the genuine one was redeemed."""
    match kind:
        case "authorization code":
            world = World(with_code())
            codes, request = world.tenant.codes, {"grant_type": "authorization_code", "code_verifier": VERIFIER}
            name = "code"
        case "device code":
            world = World(approved())
            codes, request = world.tenant.device_codes, {"grant_type": DEVICE_GRANT}
            name = "device_code"
        case _:
            world = World(given(opened(scope=SCOPE)))
            codes, request = world.tenant.refresh_tokens, {"grant_type": "refresh_token"}
            name = "refresh_token"
    for _ in range(2):
        before = list(world.written)
        forged = world.asks(request | {name: world.mint(codes, OTHER_SEED)})
        with pytest.raises(OAuthError, match="invalid_grant"):
            await token.handle(world.context, forged)
        assert world.written == before
        if not before:
            answer = await token.handle(world.context, world.asks(request | {name: world.mint(codes, "seed")}))
            assert "refresh_token" in msgspec.json.decode(answer)


async def test_presenting_anothers_token_uses_the_presenters_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9700 §4.14: else anybody who has seen a token could keep its owner from refreshing it."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    world = World(given(opened(scope=SCOPE)))
    world.register("thief", grant_types=("refresh_token",), family_requests_per_second=5)
    world.register("web", grant_types=("refresh_token",), family_requests_per_second=5)
    stolen = world.mint(world.tenant.refresh_tokens, "seed")
    request = {"grant_type": "refresh_token", "refresh_token": stolen}
    refusals = []
    for _ in range(6):
        with pytest.raises(OAuthError) as refused:
            await token.handle(world.context, world.asks(request, "thief"))
        refusals.append(refused.value.code)
    assert refusals == ["invalid_grant"] * 5 + ["slow_down"]
    assert b'"refresh_token"' in await token.handle(world.context, world.asks(request))


AUTHORIZATION = {
    "client_id": "app",
    "sub": "alice",
    "scope": "read",
    "code_challenge": s256(VERIFIER),
    "code_challenge_method": "S256",
}


async def gives_code(world: World, error: str | None, **changes: str) -> None:
    """An authorization code is issued, or refused with this error and without events."""
    asked = authorize.handle(world.context, world.asks(AUTHORIZATION | changes))
    if error is None:
        assert b'"code"' in await asked
        return
    with pytest.raises(OAuthError, match=error):
        await asked
    assert world.written == []


@pytest.mark.parametrize("disabled", [True, False])
async def test_no_code_is_given_for_a_disabled_client(disabled: bool) -> None:
    """CONTRACT §5: the request comes from a login service that is not disabled."""
    world = World()
    world.register("app", disabled=disabled)
    await gives_code(world, "invalid_request" if disabled else None)


@pytest.mark.parametrize("uris", [(), ("https://app.example/cb",)])
async def test_a_public_client_without_redirect_uris_gets_no_code(uris: tuple[str, ...]) -> None:
    """RFC 6749 §3.1.2.2: an older log may have one, or a tenant's default may have made it public since."""
    world = World()
    world.register("app", token_endpoint_auth_method="none", redirect_uris=uris)
    await gives_code(world, None if uris else "redirect_uris")


@pytest.mark.parametrize(
    ("given_uri", "good"),
    [
        ("http://127.0.0.1:5/cb", True),
        ("http://me@127.0.0.1:5/cb", False),
        ("http://me:secret@127.0.0.1:5/cb", False),
        ("http://@127.0.0.1/cb", False),
        ("http://127.0.0.1:5/cb#", False),
        ("http://127.0.0.1:5/cb#token", False),
    ],
)
async def test_an_app_chooses_only_the_port_of_a_loopback_redirect(given_uri: str, good: bool) -> None:
    """RFC 8252 §7.3, RFC 6749 §3.1.2: with a user or a fragment it is another URI than the registered one."""
    world = World()
    world.register("app", redirect_uris=("http://127.0.0.1/cb",))
    await gives_code(world, None if good else "redirect_uri", redirect_uri=given_uri)


async def test_a_public_client_gets_nothing_for_itself() -> None:
    """RFC 6749 §4.4: although it is registered for the grant, for its name alone authenticates it."""
    world = World()
    for method, gets in (("none", False), ("client_secret_basic", True)):
        world.register("app", token_endpoint_auth_method=method, grant_types=("client_credentials",))
        asked = token.handle(world.context, world.asks({"grant_type": "client_credentials"}, "app"))
        if gets:
            assert b'"access_token"' in await asked
        else:
            with pytest.raises(OAuthError, match="unauthorized_client"):
                await asked
            assert world.written == []


async def test_what_is_read_back_counts_as_requests() -> None:
    """ADR 50: of the client and for the family, whose next requests wait for it."""
    world = World(given(opened()))
    world.register("web", family_requests_per_second=100, requests_per_second=100)
    asked = world.asks(
        {"grant_type": "refresh_token", "refresh_token": world.mint(world.tenant.refresh_tokens, "seed")}
    )
    world.read_back = 500
    await token.handle(world.context, asked)
    assert world.tenant.clients["web"].bucket.left == -500, "the request itself was counted before it was read"
    with pytest.raises(OAuthError, match="requests of this family"):
        await token.handle(world.context, asked)
