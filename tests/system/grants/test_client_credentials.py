"""The client credentials grant (RFC 6749 §4.4), and first-party logins, which `issue` serves."""

import pytest

from tests.system.workspace import Clients, Workspace, claims, swap

OWN = {"grant_type": "client_credentials"}


async def test_a_token_for_the_client_itself(clients: Clients) -> None:
    """RFC 6749 §4.4: its own scope and lifetime, no refresh token; a public client gets none."""
    web = await clients("web", access_token_ttl=3600)
    token = await web.ask("token", OWN | {"scope": "read"})
    assert (token["expires_in"], token["scope"]) == (3600, "read") and "refresh_token" not in token
    assert claims(token["access_token"])["sub"] == "web"
    assert await web.ask("revoke", {"token": token["access_token"]}) == {}
    assert not await web.active(token["access_token"])
    assert (await web.ask("token", OWN | {"scope": "admin"}))["error"] == "invalid_scope"
    public = await clients("public", token_endpoint_auth_method="none")
    assert (await public.ask("token", OWN))["error"] == "unauthorized_client"


async def test_a_clients_own_token_has_nothing_of_a_person(workspace: Workspace, clients: Clients) -> None:
    """No `openid`, no `offline_access` unless requested; with them still no ID token, in the log neither."""
    web = await clients("web")
    assert (await web.ask("token", OWN))["scope"] == "profile read write"
    answer = await web.ask("token", OWN | {"scope": "openid read"})
    assert answer["scope"] == "openid read" and {"id_token", "refresh_token"}.isdisjoint(answer)
    assert await workspace.timeline(claims(answer["access_token"])["sid"]) == ["GrantAuthorized", "TokenIssued"]


async def test_a_person_and_a_client_of_one_name_are_told_apart(clients: Clients) -> None:
    """RFC 9700 §4.15: by `sub_type`, in claims and in introspection, also after an exchange."""
    web, api, named = await clients.all("web", "api", "named")
    own = (await web.ask("token", OWN))["access_token"]
    persons = (await web.issue("web"))["access_token"]
    exchanged = (await named.ask("token", swap(own)))["access_token"]
    assert {claims(token)["sub"] for token in (own, persons, exchanged)} == {"web"}
    assert [claims(token).get("sub_type") for token in (own, persons, exchanged)] == ["client", None, "client"]
    described = [await api.ask("introspect", {"token": token}) for token in (own, persons, exchanged)]
    assert [told.get("sub_type") for told in described] == ["client", None, "client"]


@pytest.mark.parametrize("what", ["subject.block", "subject.revoke", "consent.revoke"])
async def test_cutting_off_a_person_spares_a_client_of_that_name(
    workspace: Workspace, clients: Clients, what: str
) -> None:
    """RFC 9700 §4.15: the client's own tokens live, and it gets new ones."""
    web, more = await clients("web"), {"client_id": "web"} if what.startswith("consent") else {}
    own, persons = (await web.ask("token", OWN))["access_token"], (await web.issue("web"))["access_token"]
    done = await workspace.order(what, sub="web", **more)
    assert done["revoked_families"] >= 1
    assert [await web.active(token) for token in (own, persons)] == [True, False]
    assert await web.active((await web.ask("token", OWN))["access_token"])
    if what == "subject.block":
        assert (await web.ask("issue", {"sub": "web", "scope": "read"}))["error"] == "invalid_grant"
    else:
        assert (await workspace.order(what, sub="web", **more))["seq"] == done["seq"], "nothing to do again"


async def test_only_a_trusted_client_issues(clients: Clients) -> None:
    """`may_issue`: tokens for the person whom the client authenticated itself; other clients get none."""
    web, untrusted = await clients("web"), await clients("untrusted", may_issue=False)
    tokens = await web.issue(sub="bob")
    assert claims((await web.refresh(tokens["refresh_token"]))["access_token"])["sub"] == "bob"
    refused = await untrusted.ask("issue", {"sub": "bob", "scope": "read"})
    assert refused["error"] == "unauthorized_client"
