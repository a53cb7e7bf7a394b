"""Revocation (RFC 7009)."""

import pytest

from tests.system.workspace import INACTIVE, Clients, Workspace


async def test_revoking_a_refresh_token_ends_its_family(clients: Clients) -> None:
    """RFC 7009 §2.1: every access token of the grant is dead, not only the latest, and the refresh token refused."""
    app = await clients("app")
    tokens = [await app.issue()]
    for _ in range(2):
        tokens.append(await app.refresh(tokens[-1]["refresh_token"]))
    newest = tokens[-1]["refresh_token"]
    assert await app.ask("revoke", {"token": newest}) == {}
    for token in (newest, *(answer["access_token"] for answer in tokens)):
        assert await app.ask("introspect", {"token": token}) == INACTIVE
    assert (await app.refresh(newest))["error"] == "invalid_grant"


@pytest.mark.parametrize("form", ["jwt", "opaque"])
async def test_only_its_own_client_revokes_a_token(clients: Clients, form: str) -> None:
    """Another client's request ends nothing and discloses nothing; an access token is revoked alone."""
    web, other = await clients("web", access_token_format=form), await clients("other")
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


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "urn:example:unknown", ""])
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_a_wrong_hint_does_not_hide_a_token(clients: Clients, kind: str, hint: str) -> None:
    """RFC 7009 §2.1: whatever the hint, the token is found; for introspection too (RFC 7662 §2.1)."""
    app = await clients("app")
    token = (await app.issue())[kind]
    request = {"token": token, "token_type_hint": hint}
    assert (await app.ask("introspect", request))["active"] is True
    assert await app.ask("revoke", request) == {}
    assert await app.ask("introspect", request) == INACTIVE


async def test_an_unknown_token_is_a_success(workspace: Workspace, clients: Clients) -> None:
    """RFC 7009 §2.2: `{}` for what was never a token, and for a dead token; nothing is written."""
    app = await clients("app")
    dead = (await app.issue())["refresh_token"]
    await app.ask("revoke", {"token": dead})
    before = await workspace.sequence()
    for token in ("x", "hrt_" + "0" * 69, "hat_x", "a.b.c", dead, "\u2603"):
        assert await app.ask("revoke", {"token": token}) == {}
    assert await workspace.sequence() == before


async def test_an_opaque_access_token(clients: Clients) -> None:
    """Introspected as a JWT is, the same one for a retry, revoked alone; it ends with its family."""
    client = await clients("opaque", access_token_format="opaque")
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
    assert await client.ask("introspect", {"token": altered}) == INACTIVE
    assert (await client.refresh(first["refresh_token"]))["error"] == "invalid_grant"
    assert not await client.active(second["access_token"])
