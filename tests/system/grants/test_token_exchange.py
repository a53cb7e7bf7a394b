"""The token exchange grant (RFC 8693)."""

from typing import Any

import pytest

from tests.system.workspace import (
    ACCESS_TOKEN,
    API,
    EXCHANGE,
    INACTIVE,
    OTHER_API,
    SCOPE,
    Clients,
    Workspace,
    claims,
    swap,
)


async def test_an_exchanged_token(clients: Clients) -> None:
    """RFC 8693 §2.2, §4.1: narrower, for the service's own audience, with the actors; it ends with its family."""
    app = await clients("app")
    orders = await clients("orders", audiences=["https://stock.example"], access_token_ttl=3600)
    billing = await clients("billing", grant_types=[EXCHANGE], may_exchange=["orders"], access_token_format="opaque")
    mine = await app.issue(scope="read write offline_access")
    answer = await orders.ask("token", swap(mine["access_token"], scope="read", resource="https://stock.example"))
    assert (answer["issued_token_type"], answer["token_type"]) == (ACCESS_TOKEN, "Bearer")
    assert {"refresh_token", "id_token"}.isdisjoint(answer)
    told, source = claims(answer["access_token"]), claims(mine["access_token"])
    assert (told["sub"], told["client_id"], told["aud"]) == ("alice", "orders", "https://stock.example")
    assert (told["scope"], told["act"]) == ("read", {"sub": "orders"})
    assert told["exp"] <= source["exp"] and told["sid"] == source["sid"]
    onward = await billing.ask("token", swap(answer["access_token"]))
    described = await orders.ask("introspect", {"token": onward["access_token"]})
    assert described["act"] == {"sub": "billing", "act": {"sub": "orders"}} and described["aud"] == "billing"
    refreshed = await app.refresh(mine["refresh_token"])
    assert claims(refreshed["access_token"])["scope"] == "read write offline_access"
    await app.ask("revoke", {"token": refreshed["refresh_token"]})
    for token in (answer, onward):
        assert not await orders.active(token["access_token"])
    assert (await orders.ask("token", swap(mine["access_token"])))["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"subject_token": "x.y.z"}, "invalid_request"),
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
    ids=str,
)
async def test_exchange_refuses(clients: Clients, changes: dict[str, Any], error: str) -> None:
    """Each parameter with a wrong value, with its error."""
    app, orders = await clients.all("app", "orders")
    token = (await app.issue(scope="read"))["access_token"]
    assert (await orders.ask("token", swap(token, **changes)))["error"] == error


async def test_a_dead_subject_token(workspace: Workspace, clients: Clients) -> None:
    """RFC 8693 §2.2.2: revoked alone, of a revoked family, or no access token: `invalid_request`, nothing written."""
    app, orders = await clients.all("app", "orders")
    alone, whole = await app.issue(), await app.issue()
    await app.ask("revoke", {"token": alone["access_token"]})
    await app.ask("revoke", {"token": whole["refresh_token"]})
    before = await workspace.sequence()
    for token in (alone["access_token"], whole["access_token"], alone["refresh_token"], "a.b.c"):
        assert (await orders.ask("token", swap(token)))["error"] == "invalid_request"
    assert await workspace.sequence() == before


async def test_a_subject_token_used_twice(clients: Clients) -> None:
    """RFC 8693 §2.1: an exchange consumes nothing; each gives a token of its own."""
    app, orders = await clients.all("app", "orders")
    request = swap((await app.issue())["access_token"])
    answers = [await orders.ask("token", request) for _ in range(2)]
    assert len({claims(answer["access_token"])["jti"] for answer in answers}) == 2


@pytest.mark.parametrize("end", ["reuse", "operator", "subject"])
async def test_an_exchanged_token_ends_with_its_family(workspace: Workspace, clients: Clients, end: str) -> None:
    """However the family ends: the exchanged token and the one exchanged from that are dead at once."""
    app, orders = await clients.all("app", "orders")
    mine = await app.issue()
    once = await orders.ask("token", swap(mine["access_token"]))
    twice = await orders.ask("token", swap(once["access_token"]))
    for token in (once, twice):
        assert await orders.active(token["access_token"])
    match end:
        case "reuse":
            await app.refresh(mine["refresh_token"])
            await app.refresh(mine["refresh_token"])
        case "operator":
            await workspace.order("family.revoke", family_id=claims(mine["access_token"])["sid"])
        case _:
            await workspace.order("subject.revoke", sub="alice")
    for token in (once, twice):
        assert await orders.ask("introspect", {"token": token["access_token"]}) == INACTIVE
        assert (await orders.ask("token", swap(token["access_token"])))["error"] == "invalid_request"


@pytest.mark.parametrize("form", ["jwt", "opaque"])
async def test_an_exchanged_token_ends_with_its_subject_token(
    workspace: Workspace, clients: Clients, form: str
) -> None:
    """RFC 7009 §2.1: revoking the subject token ends all that was exchanged from it; its siblings live."""
    web = await clients("web")
    named, api = [
        await clients(client_id, access_token_format=form, may_exchange=["web", "named"])
        for client_id in ("named", "api")
    ]
    first = await web.issue()
    second = await web.refresh(first["refresh_token"])
    once = (await named.ask("token", swap(first["access_token"])))["access_token"]
    twice = (await api.ask("token", swap(once)))["access_token"]
    sibling = (await named.ask("token", swap(second["access_token"])))["access_token"]
    assert [await api.active(token) for token in (once, twice, sibling)] == [True, True, True]
    assert await web.ask("revoke", {"token": first["access_token"]}) == {}
    for token in (once, twice):
        assert await api.ask("introspect", {"token": token}) == INACTIVE
        assert (await api.ask("token", swap(token)))["error"] == "invalid_request"
        answer = await workspace.audit("token", token=token, min_seq=await workspace.sequence())
        assert (answer["valid"], answer["verdict"], answer["decided_by"]["type"]) == (False, "revoked", "TokenRevoked")
    assert await api.active(sibling) and await web.active(second["access_token"])
    answer = await workspace.audit("token", token=sibling, min_seq=await workspace.sequence())
    assert answer["valid"]


async def test_which_tokens_a_service_may_exchange(workspace: Workspace, clients: Clients) -> None:
    """RFC 8693 §2.1, §5: those meant for it, or of clients in `may_exchange`; not any token, scope or target."""
    web, svc, api, named = await clients.all("web", "svc", "api", "named")
    mine = (await web.issue(scope="read write offline_access"))["access_token"]
    for_api = (await web.ask("issue", {"sub": "alice", "scope": SCOPE, "resource": API}))["access_token"]
    before = await workspace.sequence()
    for service, token in ((svc, mine), (svc, for_api), (api, mine)):
        assert (await service.ask("token", swap(token)))["error"] == "invalid_request"
    for changes, error in (
        ({"resource": OTHER_API}, "invalid_target"),
        ({"audience": "bank"}, "invalid_target"),
        ({"scope": "admin"}, "invalid_scope"),
    ):
        assert (await api.ask("token", swap(for_api, **changes)))["error"] == error
    assert await workspace.sequence() == before
    by_audience, by_name = await api.ask("token", swap(for_api, scope="read")), await named.ask("token", swap(mine))
    assert (by_audience["scope"], by_name["scope"]) == ("read", "read write offline_access")
    assert claims(by_name["access_token"])["aud"] == "named"
