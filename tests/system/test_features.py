"""What four systems in use do, point by point, as their users would find it here (CONTRACT §2 to §5).

Each test is named after the system and the point. Of Curity's ways to authenticate a client, mutual TLS is not offered
in this step; nor are Auth0's SDKs.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey

from service.clients.assertion import ASSERTION_TYPE
from tests.system.service import Caller
from tests.system.workspace import (
    DEVICE,
    REDIRECT,
    SCOPE,
    Workspace,
    claims,
    code_for,
    device_code,
    poll,
    redemption,
)

TEN_YEARS = 315_360_000
ALWAYS = {"access_token", "token_type", "expires_in", "scope", "refresh_token"}


class Clients:
    """Registers clients and connects as them."""

    def __init__(self, workspace: Workspace, stack: AsyncExitStack) -> None:
        self._workspace, self._stack = workspace, stack

    async def __call__(self, client_id: str, **settings: Any) -> Caller:
        await self._workspace.register(client_id, **settings)
        return await self._stack.enter_async_context(self._workspace.client(client_id))

    async def login(self) -> Caller:
        """The trusted login service."""
        return await self("login", may_issue=False, may_authorize=True)


@pytest.fixture
async def clients(workspace: Workspace) -> AsyncIterator[Clients]:
    """Of the test's own tenant."""
    async with AsyncExitStack() as stack:
        yield Clients(workspace, stack)


async def until_inactive(caller: Caller, token: str, seconds: float = 5) -> None:
    """Return when introspection no longer calls the token active."""
    async with asyncio.timeout(seconds):
        while await caller.active(token):
            await asyncio.sleep(0.05)


# Cloudentity


async def test_cloudentity_refresh_grant_enabled_per_workspace_and_per_client(
    workspace: Workspace, clients: Clients
) -> None:
    """The client's setting goes before the workspace's; switched off, no refresh token is given and none is taken."""
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
    assert "refresh_token" in await own.refresh(token), "what was refused consumed nothing"


async def test_cloudentity_offline_access_must_be_granted(workspace: Workspace, clients: Clients) -> None:
    """A refresh token only with `offline_access` in the granted scope; a workspace may do without the rule."""
    web = await clients("web")
    assert "refresh_token" not in await web.issue(scope="read")
    assert "refresh_token" in await web.issue(scope="read offline_access")
    online = await clients("online", scope="read")
    assert (await online.ask("issue", {"sub": "a", "scope": "read offline_access"}))["error"] == "invalid_scope"
    await workspace.settings(require_offline_access=False)
    assert "refresh_token" in await online.issue(scope="read")


async def test_cloudentity_lifetime_per_workspace_up_to_years(workspace: Workspace, clients: Clients) -> None:
    """Ten years from the family's start to the second, and not a second more after a rotation."""
    await workspace.settings(refresh_token_ttl=TEN_YEARS, refresh_token_idle_ttl=0)
    web = await clients("web")
    first = await web.issue()
    told = await web.ask("introspect", {"token": first["refresh_token"]})
    assert told["exp"] - told["iat"] == TEN_YEARS
    second = await web.refresh(first["refresh_token"])
    assert (await web.ask("introspect", {"token": second["refresh_token"]}))["exp"] == told["exp"]


async def test_cloudentity_identical_or_narrower_scope(clients: Clients) -> None:
    """Identical, narrower, and never wider; a refused wish consumes nothing."""
    web = await clients("web")
    token = (await web.issue(scope="read write offline_access"))["refresh_token"]
    for asked in ("read write offline_access", "read"):
        answer = await web.refresh(token, scope=asked)
        assert answer["scope"] == claims(answer["access_token"])["scope"] == asked
        token = answer["refresh_token"]
    assert (await web.refresh(token, scope="read profile"))["error"] == "invalid_scope"
    assert "access_token" in await web.refresh(token)


async def test_cloudentity_single_use(clients: Clients) -> None:
    """Every use gives a new token and invalidates the old one: never twice the same, and none but the last active."""
    web = await clients("web")
    tokens = [(await web.issue())["refresh_token"]]
    for _ in range(4):
        tokens.append((await web.refresh(tokens[-1]))["refresh_token"])
    assert len(set(tokens)) == 5
    assert [await web.active(token) for token in tokens] == [False] * 4 + [True]
    assert (await web.refresh(tokens[-2]))["error"] == "invalid_grant"


async def test_cloudentity_revocation(clients: Clients) -> None:
    """Revoked: the refresh token is refused, and nothing of the family is active."""
    web = await clients("web")
    tokens = await web.issue()
    assert await web.ask("revoke", {"token": tokens["refresh_token"]}) == {}
    assert (await web.refresh(tokens["refresh_token"]))["error"] == "invalid_grant"
    assert not any([await web.active(tokens[kind]) for kind in ("refresh_token", "access_token")])


@pytest.mark.parametrize("setting", ["refresh_token_ttl", "refresh_token_idle_ttl"])
async def test_cloudentity_expiry(workspace: Workspace, clients: Clients, setting: str) -> None:
    """After its time, whether of life or of idleness, it is neither active nor accepted, and nothing is written."""
    web = await clients("web", **{setting: 1})
    token = (await web.issue())["refresh_token"]
    before = await workspace.sequence()
    await until_inactive(web, token)
    assert (await web.refresh(token))["error"] == "invalid_grant"
    assert await workspace.sequence() == before


async def test_cloudentity_invalid_token_answers(clients: Clients) -> None:
    """Unknown, revoked, used, another client's: the very same answer, so that it tells nothing."""
    web, other = await clients("web"), await clients("other")
    revoked, used, others = await web.issue(), await web.issue(), await other.issue()
    await web.ask("revoke", {"token": revoked["refresh_token"]})
    await web.refresh(used["refresh_token"])
    bad = [tokens["refresh_token"] for tokens in (revoked, used, others)]
    answers = [await web.refresh(token) for token in (*bad, "hrt_" + "0" * 69, "nothing of ours")]
    assert answers[0]["error"] == "invalid_grant"
    assert all(answer == answers[0] for answer in answers)


async def test_cloudentity_many_tenants(workspace: Workspace, clients: Clients) -> None:
    """Another tenant's client of the same name can do nothing with this one's tokens; issuers and keys differ."""
    web = await clients("web")
    mine = await web.issue()
    async with workspace.service.client("web", "acme") as acme:
        theirs = await acme.issue()
        for token in (mine["refresh_token"], mine["access_token"]):
            assert await acme.ask("introspect", {"token": token}) == {"active": False}
            assert await acme.ask("revoke", {"token": token}) == {}
        assert (await acme.refresh(mine["refresh_token"]))["error"] == "invalid_grant"
        keys = await Caller(acme.connection, "").ask("oauth.acme.public.jwks", {})
        ours = await Caller(web.connection, "").ask(f"oauth.{workspace.name}.public.jwks", {})
    assert claims(mine["access_token"])["iss"] == workspace.issuer != claims(theirs["access_token"])["iss"]
    assert not {key["kid"] for key in keys["keys"]} & {key["kid"] for key in ours["keys"]}
    assert "access_token" in await web.refresh(mine["refresh_token"])


# Curity


async def test_curity_answers_always_carry_five_names(clients: Clients) -> None:
    """`access_token`, `refresh_token`, `scope`, `token_type`, `expires_in`: first and refreshed, whole and narrowed."""
    login = await clients.login()
    web = await clients("web", grant_types=["refresh_token", "authorization_code", DEVICE], redirect_uris=[REDIRECT])
    issued = await web.issue(scope="read offline_access")
    by_code = await web.ask("token", redemption(await code_for(login, "web", scope="read offline_access")))
    by_device = await web.ask("token", poll(await device_code(web, login, scope="read offline_access")))
    for first in (issued, by_code, by_device):
        refreshed = await web.refresh(first["refresh_token"])
        narrowed = await web.refresh(refreshed["refresh_token"], scope="read")
        for answer in (first, refreshed, narrowed):
            assert set(answer) == ALWAYS
            assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 300)
        assert [answer["scope"] for answer in (first, narrowed)] == ["read offline_access", "read"]


def _basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


async def _edge_refresh(
    workspace: Workspace, token: str, proof: dict[str, Any], headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """Refreshed at the edge, where the request itself proves the client."""
    request = {"grant_type": "refresh_token", "refresh_token": token} | proof
    async with workspace.service.role("edge") as edge:
        return await edge.ask(f"oauth.{workspace.name}.edge.token", request, headers=headers)


async def test_curity_client_authentication_by_basic(workspace: Workspace, clients: Clients) -> None:
    """HTTP Basic: the right secret refreshes; a wrong one is `invalid_client` and consumes nothing."""
    secret = await workspace.register("web", secret=True)
    async with workspace.client("web") as web:
        token = (await web.issue())["refresh_token"]
    for wrong in (_basic("web", secret[:-1]), {}):
        assert (await _edge_refresh(workspace, token, {}, wrong))["error"] == "invalid_client"
    assert "access_token" in await _edge_refresh(workspace, token, {}, _basic("web", secret))


async def test_curity_client_authentication_by_body_secret(workspace: Workspace) -> None:
    """The secret in the body, for a client that is registered so."""
    secret = await workspace.register("web", secret=True, token_endpoint_auth_method="client_secret_post")
    async with workspace.client("web") as web:
        token = (await web.issue())["refresh_token"]
    proof = {"client_id": "web", "client_secret": secret}
    assert (await _edge_refresh(workspace, token, proof | {"client_secret": "wrong"}))["error"] == "invalid_client"
    assert "access_token" in await _edge_refresh(workspace, token, proof)


async def test_curity_client_authentication_by_jwt_assertion(workspace: Workspace) -> None:
    """An assertion under a registered key; one under another key is `invalid_client`."""
    key, strangers = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    jwks = {"keys": [key.as_dict(private=False)]}
    await workspace.register("web", token_endpoint_auth_method="private_key_jwt", jwks=jwks)
    async with workspace.client("web") as web:
        token = (await web.issue())["refresh_token"]

    def proof(signed_by: ECKey) -> dict[str, str]:
        told = {"iss": "web", "sub": "web", "aud": workspace.issuer, "exp": int(time.time()) + 60, "jti": "1"}
        assertion = joserfc_jwt.encode({"alg": "ES256"}, told, signed_by)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}

    assert (await _edge_refresh(workspace, token, proof(strangers)))["error"] == "invalid_client"
    assert "access_token" in await _edge_refresh(workspace, token, proof(key))


async def test_curity_a_new_refresh_token_per_redemption_or_the_same(workspace: Workspace, clients: Clients) -> None:
    """The switch, for a workspace and for a client: `reuse` gives the same token back, and it stays valid."""
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


async def test_curity_issuance_switched_off_per_client(workspace: Workspace, clients: Clients) -> None:
    """A lifetime of 0: no refresh token is given, and those given before are good no more; other clients' are."""
    web, other = await clients("web"), await clients("other")
    old, others = await web.issue(), await other.issue()
    await workspace.register("web", refresh_token_ttl=0)
    assert "refresh_token" not in await web.issue()
    assert (await web.refresh(old["refresh_token"]))["error"] == "invalid_grant"
    assert not await web.active(old["refresh_token"])
    assert "refresh_token" in await other.refresh(others["refresh_token"])


async def test_curity_reduced_scope_sticks_and_widens_again_at_most_to_the_original(clients: Clients) -> None:
    """With `sticky` a narrower scope holds for later tokens until a wider one is asked for; never beyond the grant."""
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


# Nevis


async def test_nevis_opaque_refresh_token(clients: Clients) -> None:
    """The refresh token is no JWT, and holds nothing of whom or what it is for: one length for all, no structure."""
    web = await clients("web")
    short = (await web.issue(sub="a", scope="offline_access"))["refresh_token"]
    long = (await web.issue(sub="a" * 255, scope=SCOPE))["refresh_token"]
    assert len(short) == len(long)
    assert all(token.startswith("hrt_") and token[4:].isalnum() and token.isascii() for token in (short, long))


async def test_nevis_lifetime_per_application(clients: Clients) -> None:
    """Two applications of one workspace, two lifetimes, of refresh tokens and of access tokens."""
    for client_id, days, seconds in (("web", 1, 60), ("app", 90, 600)):
        client = await clients(
            client_id, refresh_token_ttl=days * 86_400, refresh_token_idle_ttl=0, access_token_ttl=seconds
        )
        tokens = await client.issue()
        told = await client.ask("introspect", {"token": tokens["refresh_token"]})
        assert told["exp"] - told["iat"] == days * 86_400
        access = claims(tokens["access_token"])
        assert seconds < access["exp"] - access["iat"] <= seconds + 2, "to the second, and never shorter"
        assert tokens["expires_in"] == seconds


async def test_nevis_offline_access(clients: Clients) -> None:
    """By code as well: a refresh token where the person granted `offline_access`, and none where not."""
    login = await clients.login()
    app = await clients("app", grant_types=["refresh_token", "authorization_code"], redirect_uris=[REDIRECT])
    for scope in ("openid read", "openid read offline_access"):
        tokens = await app.ask("token", redemption(await code_for(login, "app", scope=scope)))
        assert ("refresh_token" in tokens) == ("offline_access" in scope)


async def test_nevis_id_token_on_refresh_when_openid_was_granted(clients: Clients) -> None:
    """An ID token at every refresh, about the same person and for the same client; none without `openid`."""
    web = await clients("web")
    token = (await web.issue(scope="openid offline_access"))["refresh_token"]
    for _ in range(2):
        answer = await web.refresh(token)
        told = claims(answer["id_token"])
        assert (told["sub"], told["aud"]) == ("alice", "web")
        token = answer["refresh_token"]
    without = await web.issue(scope="read offline_access")
    assert "id_token" not in without | await web.refresh(without["refresh_token"])


async def test_nevis_the_users_state_is_checked_at_every_refresh(workspace: Workspace, clients: Clients) -> None:
    """A blocked person's refresh is an error, in every application; other people's are not."""
    web, app = await clients("web"), await clients("app")
    alices, others = [await web.issue(), await app.issue()], await web.issue(sub="bob")
    alices[0] = await web.refresh(alices[0]["refresh_token"])
    assert (await workspace.order("subject.block", sub="alice"))["revoked_families"] == 2
    for client, tokens in zip((web, app), alices, strict=True):
        assert (await client.refresh(tokens["refresh_token"]))["error"] == "invalid_grant"
        assert (await client.ask("issue", {"sub": "alice", "scope": "read"}))["error"] == "invalid_grant"
    assert "access_token" in await web.refresh(others["refresh_token"])


@pytest.mark.parametrize("format_", ["jwt", "opaque"])
async def test_nevis_revocation_by_the_own_client_only_and_effective_at_once(clients: Clients, format_: str) -> None:
    """Another client's attempt ends nothing, and tells nothing; the own client's ends just that token, or all."""
    web, other = await clients("web", access_token_format=format_), await clients("other")
    tokens = await web.issue()
    for kind in ("access_token", "refresh_token"):
        assert await other.ask("revoke", {"token": tokens[kind]}) == {}
        assert await web.active(tokens[kind])
    assert await web.ask("revoke", {"token": tokens["access_token"]}) == {}
    assert [await web.active(tokens[kind]) for kind in ("access_token", "refresh_token")] == [False, True]
    tokens = await web.refresh(tokens["refresh_token"])
    assert await web.active(tokens["access_token"])
    assert await web.ask("revoke", {"token": tokens["refresh_token"]}) == {}
    assert [await web.active(tokens[kind]) for kind in ("access_token", "refresh_token")] == [False, False]


async def test_nevis_public_clients_without_a_secret(workspace: Workspace) -> None:
    """A public client is given no secret, and refreshes by its name alone; a confidential one's name will not do."""
    assert await workspace.register("app", secret=True, token_endpoint_auth_method="none") == ""
    assert await workspace.register("web", secret=True) != ""
    async with workspace.client("app") as app, workspace.client("web") as web:
        token, webs = (await app.issue())["refresh_token"], (await web.issue())["refresh_token"]
    assert "access_token" in await _edge_refresh(workspace, token, {"client_id": "app"})
    assert (await _edge_refresh(workspace, webs, {"client_id": "web"}))["error"] == "invalid_client"


# Auth0


async def test_auth0_initial_grant_by_authorization_code(clients: Clients) -> None:
    """The code gives the first refresh token, and that the next."""
    login = await clients.login()
    app = await clients("app", grant_types=["authorization_code", "refresh_token"], redirect_uris=[REDIRECT])
    tokens = await app.ask("token", redemption(await code_for(login, "app")))
    assert "refresh_token" in await app.refresh(tokens["refresh_token"])


async def test_auth0_initial_grant_by_device_flow(clients: Clients) -> None:
    """The approved device gets its first refresh token, and that gives the next."""
    login, television = await clients.login(), await clients("television", grant_types=[DEVICE, "refresh_token"])
    tokens = await television.ask("token", poll(await device_code(television, login)))
    assert "refresh_token" in await television.refresh(tokens["refresh_token"])


async def test_auth0_initial_grant_by_first_party_login(clients: Clients) -> None:
    """The client that authenticated the person itself gets tokens for that person; who may not issue gets none."""
    web, untrusted = await clients("web"), await clients("untrusted", may_issue=False)
    tokens = await web.issue(sub="bob")
    assert claims((await web.refresh(tokens["refresh_token"]))["access_token"])["sub"] == "bob"
    refused = await untrusted.ask("issue", {"sub": "bob", "scope": "read"})
    assert refused["error"] == "unauthorized_client"


async def test_auth0_client_secret_for_web_and_none_for_mobile(workspace: Workspace) -> None:
    """Both refresh at the edge as they are registered; neither passes as the other."""
    secret = await workspace.register("web", secret=True)
    await workspace.register("mobile", token_endpoint_auth_method="none")
    async with workspace.client("web") as web, workspace.client("mobile") as mobile:
        webs, mobiles = (await web.issue())["refresh_token"], (await mobile.issue())["refresh_token"]
    by_name, by_secret = {"client_id": "mobile"}, _basic("web", secret)
    assert (await _edge_refresh(workspace, webs, by_name))["error"] == "invalid_grant"
    assert (await _edge_refresh(workspace, mobiles, {}, by_secret))["error"] == "invalid_grant"
    assert "access_token" in await _edge_refresh(workspace, webs, {}, by_secret)
    assert "access_token" in await _edge_refresh(workspace, mobiles, by_name)


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
async def test_auth0_a_refresh_token_dies(
    workspace: Workspace,
    clients: Clients,
    end: Callable[[Workspace, Caller, str], Awaitable[None]],
    reasons: list[str],
) -> None:
    """By any of these it is neither active nor accepted, and the history tells why the family ended."""
    web = await clients("web")
    token = (await web.ask("issue", {"sub": "alice", "scope": SCOPE, "acr": "pwd"}))["refresh_token"]
    await end(workspace, web, token)
    assert not await web.active(token)
    assert (await web.refresh(token))["error"] == "invalid_grant"
    assert await workspace.reasons() == reasons


async def test_auth0_a_stronger_login_outlives_the_changed_policy(workspace: Workspace, clients: Clients) -> None:
    """Whoever had used MFA goes on; a login without it is refused from then on, at its first refresh at the latest."""
    web = await clients("web")
    strong = await web.ask("issue", {"sub": "alice", "scope": SCOPE, "acr": "mfa"})
    await workspace.settings(required_acr=["mfa"])
    assert "access_token" in await web.refresh(strong["refresh_token"])
    weak = await web.ask("issue", {"sub": "bob", "scope": SCOPE, "acr": "pwd"})
    assert (await web.refresh(weak["refresh_token"]))["error"] == "invalid_grant"


async def test_auth0_id_token_needs_openid_in_the_original_grant(clients: Clients) -> None:
    """Asking for `openid` later is `invalid_scope`, and gives no ID token."""
    web = await clients("web")
    token = (await web.issue(scope="read offline_access"))["refresh_token"]
    assert (await web.refresh(token, scope="openid read"))["error"] == "invalid_scope"
    assert "id_token" not in await web.refresh(token)
    assert "id_token" in await web.refresh((await web.issue(scope="openid offline_access"))["refresh_token"])
