"""Credentials where they do not belong: of another kind, tenant or client, or expired."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.system.workspace import (
    INACTIVE,
    SCOPE,
    Clients,
    Workspace,
    code_for,
    device_code,
    made,
    poll,
    redemption,
    swap,
)


class Credentials(NamedTuple):
    """One of every kind, each good where it belongs."""

    refresh: str
    access: str
    opaque: str
    id: str
    code: str
    device: str


async def _credentials(clients: Clients) -> Credentials:
    web, login, app = await clients.all("web", "login", "app")
    other = await clients("other", access_token_format="opaque")
    await clients("orders", may_exchange=["web", "other"])
    webs, others = await web.issue(scope=SCOPE), await other.issue()
    code, device = await code_for(login, "app"), await device_code(app, login)
    return Credentials(
        webs["refresh_token"], webs["access_token"], others["access_token"], webs["id_token"], code, device
    )


async def _all_good(clients: Clients, held: Credentials) -> None:
    """Each can be used where it belongs."""
    assert await clients["orders"].active(held.access) and await clients["orders"].active(held.opaque)
    for client_id, request in (
        ("web", {"grant_type": "refresh_token", "refresh_token": held.refresh}),
        ("app", redemption(held.code)),
        ("app", poll(held.device)),
        ("orders", swap(held.access)),
        ("orders", swap(held.opaque)),
    ):
        assert "access_token" in await clients[client_id].ask("token", request)


class Place(NamedTuple):
    """Where a client presents a credential, the answer to one that does not belong there, and the kinds that do."""

    client_id: str
    endpoint: str
    request: Callable[[str], dict[str, Any]]
    refusal: str | dict[str, Any]
    kinds: tuple[str, ...]

    def refuses(self, answer: dict[str, Any]) -> bool:
        """Whether this is the answer to a credential that is not good here."""
        return (answer.get("error") if isinstance(self.refusal, str) else answer) == self.refusal


def _refreshing(token: str) -> dict[str, Any]:
    return {"grant_type": "refresh_token", "refresh_token": token}


def _about(token: str) -> dict[str, Any]:
    return {"token": token}


PLACES = {
    "refresh_token": Place("web", "token", _refreshing, "invalid_grant", ("refresh",)),
    "code": Place("app", "token", redemption, "invalid_grant", ("code",)),
    "device_code": Place("app", "token", poll, "invalid_grant", ("device",)),
    "subject_token": Place("orders", "token", swap, "invalid_request", ("access", "opaque")),
    "revoke": Place("web", "revoke", _about, {}, ("refresh", "access", "opaque")),
    "introspect": Place("orders", "introspect", _about, INACTIVE, ("refresh", "access", "opaque")),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_a_credential_of_another_kind(workspace: Workspace, clients: Clients, place: Place) -> None:
    """It is refused, and stays good where it belongs."""
    held = await _credentials(clients)
    before = await workspace.sequence()
    for kind, credential in held._asdict().items():
        if kind not in place.kinds:
            answer = await clients[place.client_id].ask(place.endpoint, place.request(credential))
            assert place.refuses(answer), kind
    assert await workspace.sequence() == before
    await _all_good(clients, held)


async def test_a_credential_of_another_tenant(workspace: Workspace, clients: Clients) -> None:
    """It is unknown there, and stays good in its own tenant."""
    held = await _credentials(clients)
    async with made(workspace.service) as elsewhere:
        for client_id in ("app", "orders"):
            await elsewhere.register(client_id)
        before = await workspace.sequence()
        for name, credential in (
            ("code", held.code),
            ("device_code", held.device),
            ("subject_token", held.access),
            ("subject_token", held.opaque),
            ("introspect", held.access),
            ("introspect", held.opaque),
        ):
            place = PLACES[name]
            async with elsewhere.client(place.client_id) as stranger:
                assert place.refuses(await stranger.ask(place.endpoint, place.request(credential))), name
        assert await workspace.sequence() == before
    await _all_good(clients, held)


async def test_a_credential_of_another_client(workspace: Workspace, clients: Clients) -> None:
    """A device code and an opaque token are refused as unknown ones are, and cannot be revoked."""
    held = await _credentials(clients)
    before = await workspace.sequence()
    assert (await clients["other"].ask("token", poll(held.device)))["error"] == "invalid_grant"
    assert await clients["web"].ask("revoke", {"token": held.opaque}) == {}
    assert await clients["web"].ask("introspect", {"token": held.opaque}) == INACTIVE
    assert await workspace.sequence() == before
    await _all_good(clients, held)


async def test_an_expired_credential(workspace: Workspace, clients: Clients) -> None:
    """`invalid_grant` for a refresh token, `invalid_request` for a subject token, success for a revocation."""
    brief = await clients("brief", access_token_ttl=1, refresh_token_ttl=1)
    orders = await clients("orders", may_exchange=["brief"])
    tokens = await brief.issue()
    async with asyncio.timeout(5):
        while any([await brief.active(tokens[kind]) for kind in ("access_token", "refresh_token")]):
            await asyncio.sleep(0.05)
    before = await workspace.sequence()
    assert (await brief.refresh(tokens["refresh_token"], key="k"))["error"] == "invalid_grant"
    assert (await orders.ask("token", swap(tokens["access_token"])))["error"] == "invalid_request"
    assert await workspace.sequence() == before
    for _ in range(2):  # it is written once: another replica's clock may still call the token alive
        assert await brief.ask("revoke", {"token": tokens["access_token"]}) == {}
    assert await workspace.sequence() == before + 1
