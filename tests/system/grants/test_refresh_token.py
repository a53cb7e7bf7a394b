"""The refresh token grant: rotation, reuse, lifetimes, scope, resources (RFC 6749 §6, RFC 9700 §4.14, CONTRACT §3)."""

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from events import base62
from events.aggregates import aggregate_names
from events.aggregates.family_commit import codec
from events.log.log import Log
from service.keys import keyring
from service.keys.mac_tokens import MacTokens, new_id, new_seed
from tests.system.service import Caller, Service
from tests.system.workspace import (
    INACTIVE,
    SCOPE,
    Clients,
    Workspace,
    claims,
    code_for,
    device_code,
    poll,
    redemption,
)

DAY = 86_400
TEN_YEARS = 3650 * DAY
MEMBERS = {"access_token", "token_type", "expires_in", "scope", "refresh_token"}


async def until_inactive(caller: Caller, token: str, seconds: float = 5) -> None:
    """Return when introspection no longer calls the token active."""
    async with asyncio.timeout(seconds):
        while await caller.active(token):
            await asyncio.sleep(0.05)


async def test_the_grant_is_enabled_per_tenant_and_per_client(workspace: Workspace, clients: Clients) -> None:
    """The client's `grant_types` override the tenant's; without the grant no refresh token is issued or accepted."""
    await workspace.settings(grant_types=["client_credentials"])
    inherits, own = await clients("inherits", grant_types=None), await clients("own")
    assert "refresh_token" not in await inherits.issue()
    token = (await own.issue())["refresh_token"]
    assert (await inherits.refresh(token))["error"] == "unauthorized_client"
    await workspace.settings(grant_types=["refresh_token"])
    assert "refresh_token" in await inherits.issue()
    await workspace.register("own", grant_types=["client_credentials"])
    assert "refresh_token" not in await own.issue()
    assert (await own.refresh(token))["error"] == "unauthorized_client"
    await workspace.register("own")
    assert "refresh_token" in await own.refresh(token), "a refusal consumes no token"


async def test_offline_access_must_be_granted(workspace: Workspace, clients: Clients) -> None:
    """Only a scope with `offline_access` gives a refresh token, by code as well; a tenant may drop the rule."""
    web, login = await clients.all("web", "login")
    for scope in ("openid read", "openid read offline_access"):
        by_code = await web.ask("token", redemption(await code_for(login, "web", scope=scope)))
        for answer in (await web.issue(scope=scope), by_code):
            assert ("refresh_token" in answer) == ("offline_access" in scope)
    online = await clients("online", scope="read")
    assert (await online.ask("issue", {"sub": "a", "scope": "read offline_access"}))["error"] == "invalid_scope"
    await workspace.settings(require_offline_access=False)
    assert "refresh_token" in await online.issue(scope="read")


async def test_lifetimes_per_tenant_and_per_client(workspace: Workspace, clients: Clients) -> None:
    """Exact to the second, from the family's start: ten years of the tenant, shorter ones of two clients."""
    await workspace.settings(refresh_token_ttl=TEN_YEARS, refresh_token_idle_ttl=0)
    for client_id, ttl, seconds in (("plain", TEN_YEARS, 300), ("short", DAY, 60), ("long", 90 * DAY, 600)):
        own = {} if client_id == "plain" else {"refresh_token_ttl": ttl, "access_token_ttl": seconds}
        client = await clients(client_id, **own)
        first = await client.issue()
        told = await client.ask("introspect", {"token": first["refresh_token"]})
        assert told["exp"] - told["iat"] == ttl
        access = claims(first["access_token"])
        assert seconds < access["exp"] - access["iat"] <= seconds + 2, "to the second, and never shorter"
        assert first["expires_in"] == seconds
        second = await client.refresh(first["refresh_token"])
        again = await client.ask("introspect", {"token": second["refresh_token"]})
        assert again["exp"] == told["exp"], "a rotation does not prolong the family"


async def test_scope_stays_within_the_grant(workspace: Workspace, clients: Clients) -> None:
    """RFC 6749 §6: the same or less, also where the client itself may have more; omitted, the original once more."""
    app = await clients("app")
    token = (await app.issue(scope="read write offline_access"))["refresh_token"]
    before = await workspace.sequence()
    assert (await app.refresh(token, scope="read profile"))["error"] == "invalid_scope"
    assert await workspace.sequence() == before, "a refusal consumes no token"
    for asked, granted in (
        ({"scope": "read write offline_access"}, "read write offline_access"),
        ({"scope": "read"}, "read"),
        ({}, "read write offline_access"),
    ):
        answer = await app.refresh(token, **asked)
        assert answer["scope"] == claims(answer["access_token"])["scope"] == granted
        token = answer["refresh_token"]


async def test_a_narrowed_scope_sticks(clients: Clients) -> None:
    """`scope_narrowing="sticky"`: a narrower scope holds until a wider one is requested, within the grant."""
    web = await clients("web", scope_narrowing="sticky")
    token = (await web.issue(scope="read write offline_access"))["refresh_token"]
    for asked, given in (
        ({}, "read write offline_access"),
        ({"scope": "read"}, "read"),
        ({}, "read"),
        ({"scope": "read write"}, "read write"),
        ({}, "read write"),
        ({"scope": "read write offline_access"}, "read write offline_access"),
        ({"scope": "write"}, "write"),
    ):
        answer = await web.refresh(token, **asked)
        assert answer["scope"] == claims(answer["access_token"])["scope"] == given
        token = answer["refresh_token"]
    assert (await web.refresh(token, scope="read write offline_access profile"))["error"] == "invalid_scope"
    assert (await web.refresh(token))["scope"] == "write"


async def test_resources_stay_within_the_grant(workspace: Workspace, clients: Clients) -> None:
    """RFC 8707 §2.2: a granted resource narrows that access token alone; another one is `invalid_target`."""
    app = await clients("app")
    a, b, c = (f"https://{name}.example" for name in "abc")
    answer = await app.ask("issue", {"sub": "alice", "scope": SCOPE, "resource": [a, b]})
    assert claims(answer["access_token"])["aud"] == [a, b]
    before = await workspace.sequence()
    for wrong in (c, [a, c], f"{a}/"):
        assert (await app.refresh(answer["refresh_token"], resource=wrong))["error"] == "invalid_target"
    assert await workspace.sequence() == before
    audiences: list[Any] = []
    for asked in ({"resource": b}, {"resource": [a]}, {}):
        answer = await app.refresh(answer["refresh_token"], **asked)
        audiences.append(claims(answer["access_token"])["aud"])
    assert audiences == [b, a, [a, b]]


async def test_every_answer_has_the_same_members(clients: Clients) -> None:
    """RFC 6749 §5.1: of every grant, first and refreshed, whole and narrowed."""
    login, web = await clients.all("login", "web")
    issued = await web.issue(scope="read offline_access")
    by_code = await web.ask("token", redemption(await code_for(login, "web", scope="read offline_access")))
    by_device = await web.ask("token", poll(await device_code(web, login, scope="read offline_access")))
    for first in (issued, by_code, by_device):
        refreshed = await web.refresh(first["refresh_token"])
        narrowed = await web.refresh(refreshed["refresh_token"], scope="read")
        for answer in (first, refreshed, narrowed):
            assert set(answer) == MEMBERS
            assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 300)
        assert [answer["scope"] for answer in (first, narrowed)] == ["read offline_access", "read"]


async def test_a_refresh_token_is_opaque(clients: Clients) -> None:
    """It has one length and one alphabet, whatever it is for: no JWT, and nothing readable of person or scope."""
    web = await clients("web")
    short = (await web.issue(sub="a", scope="offline_access"))["refresh_token"]
    long = (await web.issue(sub="a" * 255, scope=SCOPE))["refresh_token"]
    assert len(short) == len(long)
    assert all(token.startswith("hrt_") and token[4:].isalnum() and token.isascii() for token in (short, long))


async def test_each_token_is_used_once(clients: Clients) -> None:
    """Every refresh gives a new token and invalidates the old one: all differ, and only the last is active."""
    web = await clients("web")
    tokens = [(await web.issue())["refresh_token"]]
    for _ in range(4):
        tokens.append((await web.refresh(tokens[-1]))["refresh_token"])
    assert len(set(tokens)) == 5
    assert [await web.active(token) for token in tokens] == [False] * 4 + [True]
    assert (await web.refresh(tokens[-2]))["error"] == "invalid_grant"


async def test_rotation_is_switched_off_per_tenant_and_per_client(workspace: Workspace, clients: Clients) -> None:
    """`refresh_token_rotation="reuse"` returns the same token, which stays valid; a client may override it."""
    await workspace.settings(refresh_token_rotation="reuse")
    keeps, rotates = await clients("keeps"), await clients("rotates", refresh_token_rotation="rotate")
    token = (await keeps.issue())["refresh_token"]
    answers = [await keeps.refresh(token) for _ in range(3)]
    assert {answer["refresh_token"] for answer in answers} == {token}
    assert len({claims(answer["access_token"])["jti"] for answer in answers}) == 3
    family = claims(answers[0]["access_token"])["sid"]
    assert not {"TokenRotated", "TokenReuseDetected"} & set(await workspace.timeline(family))
    token = (await rotates.issue())["refresh_token"]
    assert (await rotates.refresh(token))["refresh_token"] != token


async def test_refresh_tokens_of_public_clients_rotate(workspace: Workspace) -> None:
    """RFC 9700 §4.14.2: whatever the tenant's default is; a public client cannot be registered with `reuse`."""
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


async def test_a_token_used_twice(workspace: Workspace, clients: Clients) -> None:
    """`invalid_grant` after one commit of these two events; CONTRACT §3.5: a bounded number of commits ever after."""
    web = await clients("web")
    used = (await web.issue())["refresh_token"]
    family = claims((await web.refresh(used))["access_token"])["sid"]
    history, before = await workspace.timeline(family), await workspace.sequence()
    assert (await web.refresh(used))["error"] == "invalid_grant"
    assert await workspace.sequence() == before + 1
    assert await workspace.timeline(family) == [*history, "TokenReuseDetected", "FamilyRevoked"]
    assert await workspace.reasons() == ["reuse_detected"]
    for _ in range(12):
        assert (await web.refresh(used))["error"] == "invalid_grant"
    assert await workspace.sequence() <= before + 1 + 3


async def test_a_late_duplicate(workspace: Workspace, clients: Clients) -> None:
    """CONTRACT §3.8: refused with the answer to any bad token and recorded; another key ends the family."""
    web = await clients("web")
    tokens = [await web.issue()]
    for key in ("one", "two", "three"):
        tokens.append(await web.refresh(tokens[-1]["refresh_token"], key=key))
    history, family = await _history_of(workspace, tokens[-1])
    late = await web.refresh(tokens[0]["refresh_token"], key="one")
    assert late == await web.refresh("hrt_" + "0" * 69)
    assert (await workspace.timeline(family)) == [*history, "LateDuplicateRefused"]
    assert await web.active(tokens[-1]["refresh_token"])
    assert (await web.refresh(tokens[2]["refresh_token"], key="three"))["refresh_token"] == tokens[3]["refresh_token"]
    assert (await web.refresh(tokens[1]["refresh_token"], key="one"))["error"] == "invalid_grant"
    assert not await web.active(tokens[-1]["refresh_token"])
    assert await workspace.reasons() == ["reuse_detected"]


async def _history_of(workspace: Workspace, tokens: dict[str, Any]) -> tuple[list[str], str]:
    family = claims(tokens["access_token"])["sid"]
    return await workspace.timeline(family), family


async def test_reuse_is_detected_after_the_tokens_own_lifetime(workspace: Workspace, clients: Clients) -> None:
    """RFC 9700 §4.14.2: a used token that has also expired still ends its living family."""
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


async def test_a_generation_that_was_never_issued(service: Service) -> None:
    """CONTRACT §3.7: a token minted with keyring and log is recorded as a forgery, and ends the family."""
    async with service.client() as web, service.role("auditor") as auditor:
        mine = await web.issue()
        keys = keyring.load(service.data / "keyring.json")
        presented = MacTokens(keys, "acme", "refresh").recognise(mine["refresh_token"])
        assert presented is not None
        guessed = MacTokens(keys, "acme", "refresh").mint(1, presented.family_id, 7, new_seed())
        assert (await web.refresh(guessed))["error"] == "invalid_grant"
        assert await web.active(mine["refresh_token"]), "the keyring without the family's seed does nothing"
        seed = await _seed(service, presented.family_id)
        forged = MacTokens(keys, "acme", "refresh").mint(1, presented.family_id, 7, seed)
        assert (await web.refresh(forged))["error"] == "invalid_grant"
        assert not await web.active(mine["refresh_token"])
        position = await auditor.ask("audit.acme.position", {})
        incidents = await auditor.ask("audit.acme.incidents", {"min_seq": position["log_seq"], "limit": 1000})
    assert [item["type"] for item in incidents["items"] if item["family_id"] == presented.family_id] == [
        "ForgeryDetected"
    ]


async def _seed(service: Service, family_id: str) -> str:
    connection = await service.own()
    stored = (await Log(connection).head(aggregate_names.family("acme", family_id))).stored
    await connection.close()
    assert stored is not None
    return codec.decode(stored.body).state.seed


async def test_altered_tokens(service: Service, workspace: Workspace, clients: Clients) -> None:
    """Truncated, altered, of another kind, of no family: refused, inactive, nothing to revoke; the family lives on."""
    web = await clients("web")
    mine = await web.issue()
    token = mine["refresh_token"]
    flipped = token[:20] + ("A" if token[20] != "A" else "B") + token[21:-6]
    altered = flipped + base62.encode_int(zlib.crc32(flipped.encode()), 6)
    keys = keyring.load(service.data / "keyring.json")
    nobodys = MacTokens(keys, workspace.name, "refresh").mint(1, new_id(), 0, new_seed())
    before = await workspace.sequence()
    for bad in (token[:-1], token[:-7], altered, flipped + token[-6:], token + "x", nobodys, "x" * 9000):
        assert (await web.refresh(bad))["error"] == "invalid_grant"
        assert await web.ask("introspect", {"token": bad}) == INACTIVE
        assert await web.ask("revoke", {"token": bad}) == {}
    assert (await web.refresh(mine["access_token"]))["error"] == "invalid_grant"
    assert await workspace.sequence() == before
    assert "error" not in await web.refresh(token)


async def test_every_bad_token_gets_the_same_answer(clients: Clients) -> None:
    """Unknown, revoked, used, another client's: identical answers disclose nothing."""
    web, other = await clients("web"), await clients("other")
    revoked, used, others = await web.issue(), await web.issue(), await other.issue()
    await web.ask("revoke", {"token": revoked["refresh_token"]})
    await web.refresh(used["refresh_token"])
    bad = [tokens["refresh_token"] for tokens in (revoked, used, others)]
    answers = [await web.refresh(token) for token in (*bad, "hrt_" + "0" * 69, "nothing of ours")]
    assert answers[0]["error"] == "invalid_grant"
    assert all(answer == answers[0] for answer in answers)


async def test_a_token_is_bound_to_its_client(workspace: Workspace, clients: Clients) -> None:
    """RFC 6749 §10.4: another client's request rotates and ends nothing, with a current token or an old one.

    Revocation answers a genuine token of another client as it does a forged one (RFC 7009 §2.2).
    """
    app, other = await clients.all("app", "other")
    first = await app.issue()
    second = await app.refresh(first["refresh_token"])
    before = await workspace.sequence()
    for tokens in (first, second):
        for key in (None, "k"):
            assert (await other.refresh(tokens["refresh_token"], key=key))["error"] == "invalid_grant"
        assert await other.ask("introspect", {"token": tokens["refresh_token"]}) == INACTIVE
        for token in (tokens["refresh_token"], tokens["access_token"], tokens["refresh_token"][:-1] + "0"):
            assert await other.ask("revoke", {"token": token}) == {}
    assert await workspace.sequence() == before
    assert "access_token" in await app.refresh(second["refresh_token"])


@pytest.mark.parametrize("setting", ["refresh_token_ttl", "refresh_token_idle_ttl"])
async def test_expiry(workspace: Workspace, clients: Clients, setting: str) -> None:
    """After its lifetime or its idle time a token is neither active nor accepted, and nothing is written."""
    web = await clients("web", **{setting: 1})
    token = (await web.issue())["refresh_token"]
    before = await workspace.sequence()
    await until_inactive(web, token)
    assert (await web.refresh(token))["error"] == "invalid_grant"
    assert await workspace.sequence() == before


async def test_a_lifetime_of_zero(workspace: Workspace, clients: Clients) -> None:
    """No refresh token is issued, and earlier ones are refused; other clients' tokens stay valid."""
    web, other = await clients("web"), await clients("other")
    old, others = await web.issue(), await other.issue()
    await workspace.register("web", refresh_token_ttl=0)
    assert "refresh_token" not in await web.issue()
    assert (await web.refresh(old["refresh_token"]))["error"] == "invalid_grant"
    assert not await web.active(old["refresh_token"])
    assert "refresh_token" in await other.refresh(others["refresh_token"])


async def test_id_token(workspace: Workspace, clients: Clients) -> None:
    """OpenID Connect Core §12.2: the same iss, sub, aud and auth_time, a new iat, no nonce; at each refresh."""
    app = await clients("app")
    request = {"sub": "alice", "scope": SCOPE, "nonce": "n", "auth_time": 1_700_000_000}
    answer = await app.ask("issue", request)
    first = claims(answer["id_token"])
    told = (first["nonce"], first["iss"], first["aud"], first["sub"], first["auth_time"])
    assert told == ("n", workspace.issuer, "app", "alice", 1_700_000_000)
    for _ in range(2):
        answer = await app.refresh(answer["refresh_token"])
        again = claims(answer["id_token"])
        assert "nonce" not in again
        for name in ("iss", "sub", "aud", "auth_time"):
            assert again[name] == first[name]
        assert again["iat"] == claims(answer["access_token"])["iat"] >= first["iat"]


async def test_no_id_token_without_openid(clients: Clients) -> None:
    """It needs `openid` in the original grant: requested later, the scope is invalid."""
    web = await clients("web")
    first = await web.issue(scope="read offline_access")
    assert (await web.refresh(first["refresh_token"], scope="openid read"))["error"] == "invalid_scope"
    assert "id_token" not in first | await web.refresh(first["refresh_token"])
    assert "id_token" in await web.refresh((await web.issue(scope="openid offline_access"))["refresh_token"])


async def test_authentication_claims_are_unchanged(clients: Clients) -> None:
    """RFC 9068 §2.2.1: `auth_time`, `acr` and `amr` describe the login after any number of refreshes."""
    app = await clients("app")
    login = {"acr": "mfa", "amr": ["pwd", "otp"], "auth_time": 1_700_000_000}
    answer = await app.ask("issue", {"sub": "alice", "scope": SCOPE} | login)
    for asked in ({}, {"scope": "read"}, {}):
        answer = await app.refresh(answer["refresh_token"], **asked)
        told = claims(answer["access_token"])
        assert {name: told[name] for name in login} == login


async def test_a_blocked_persons_tokens_are_refused(workspace: Workspace, clients: Clients) -> None:
    """At every client of the tenant; other people's tokens are accepted."""
    web, app = await clients("web"), await clients("app")
    alices, others = [await web.issue(), await app.issue()], await web.issue(sub="bob")
    alices[0] = await web.refresh(alices[0]["refresh_token"])
    assert (await workspace.order("subject.block", sub="alice"))["revoked_families"] == 2
    for client, tokens in zip((web, app), alices, strict=True):
        assert (await client.refresh(tokens["refresh_token"]))["error"] == "invalid_grant"
        assert (await client.ask("issue", {"sub": "alice", "scope": "read"}))["error"] == "invalid_grant"
    assert "access_token" in await web.refresh(others["refresh_token"])


async def _revoked(_workspace: Workspace, web: Caller, token: str) -> None:
    await web.ask("revoke", {"token": token})


async def _consent_withdrawn(workspace: Workspace, _web: Caller, _token: str) -> None:
    await workspace.order("consent.revoke", sub="alice", client_id="web")


async def _expired(workspace: Workspace, web: Caller, token: str) -> None:
    await workspace.register("web", refresh_token_ttl=1)
    await until_inactive(web, token)


async def _policy_changed(workspace: Workspace, _web: Caller, _token: str) -> None:
    await workspace.settings(required_acr=["mfa"])


@pytest.mark.parametrize(
    ("end", "reasons"),
    [
        (_revoked, ["client_request"]),
        (_consent_withdrawn, ["consent_withdrawn"]),
        (_expired, []),
        (_policy_changed, ["policy_changed"]),
    ],
    ids=["revocation", "consent withdrawn", "expiry", "now MFA is required"],
)
async def test_what_ends_a_token(
    workspace: Workspace,
    clients: Clients,
    end: Callable[[Workspace, Caller, str], Awaitable[None]],
    reasons: list[str],
) -> None:
    """Afterwards it is neither active nor accepted, and the audit has the reason."""
    web = await clients("web")
    token = (await web.ask("issue", {"sub": "alice", "scope": SCOPE, "acr": "pwd"}))["refresh_token"]
    await end(workspace, web, token)
    assert not await web.active(token)
    assert (await web.refresh(token))["error"] == "invalid_grant"
    assert await workspace.reasons() == reasons


async def test_a_stronger_login_survives_a_stricter_policy(workspace: Workspace, clients: Clients) -> None:
    """`required_acr`: a family of a sufficient login goes on; a weaker one is refused at its next refresh."""
    web = await clients("web")
    strong = await web.ask("issue", {"sub": "alice", "scope": SCOPE, "acr": "mfa"})
    await workspace.settings(required_acr=["mfa"])
    assert "access_token" in await web.refresh(strong["refresh_token"])
    weak = await web.ask("issue", {"sub": "bob", "scope": SCOPE, "acr": "pwd"})
    assert (await web.refresh(weak["refresh_token"]))["error"] == "invalid_grant"


async def test_an_idempotency_key_with_another_body(clients: Clients) -> None:
    """CONTRACT §2: `invalid_request`; the client's own `client_id` is no part of what is compared."""
    web = await clients("web")
    token = (await web.issue())["refresh_token"]
    first = await web.refresh(token, key="k", client_id="web")
    assert (await web.refresh(token, key="k", scope="read"))["error"] == "invalid_request"
    assert (await web.refresh(token, key="k"))["refresh_token"] == first["refresh_token"]


async def test_an_idempotency_key_is_one_familys(workspace: Workspace, clients: Clients) -> None:
    """The same key for tokens of two families is two requests; neither takes the other's scope or resources."""
    app = await clients("app")
    one, two = [
        await app.ask("issue", {"sub": "alice", "scope": scope, "resource": f"https://{name}.example/"})
        for scope, name in (("read offline_access", "a"), (SCOPE, "b"))
    ]
    before = await workspace.sequence()
    for changes, error in (
        ({"resource": "https://b.example/"}, "invalid_target"),
        ({"scope": "write"}, "invalid_scope"),
    ):
        assert (await app.refresh(one["refresh_token"], **changes))["error"] == error
    assert await workspace.sequence() == before
    first, second = [await app.refresh(tokens["refresh_token"], key="k") for tokens in (one, two)]
    assert "error" not in first | second
    assert claims(first["access_token"])["sid"] != claims(second["access_token"])["sid"]
