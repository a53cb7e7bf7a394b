"""An issuer's public metadata, for any number of clients."""

import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from events.aggregates.client import ClientConfigured, ClientEvent, ClientState, codec
from events.aggregates.commit import VERSION, Commit
from events.aggregates.settings import ClientSettings
from events.log.stored_message import StoredMessage
from service import clock
from service.context import Context
from service.endpoints import discovery
from service.endpoints.discovery import MAX_SCOPES_CHARACTERS, metadata_of
from service.keys.keyring import Keyring
from service.registry.registry import Registry
from service.registry.tenant import Client, Tenant
from service.request import Request


def with_scopes(*scopes: str) -> Tenant:
    """A tenant with one client for each of these scopes."""
    tenant = Tenant("acme", Keyring({1: b"k" * 32}))
    for number, scope in enumerate(scopes):
        settings = ClientSettings(scope=scope)
        state, stored = ClientState(settings), StoredMessage(number + 1, f"tokens.acme.client.c{number}", b"")
        tenant.clients[f"c{number}"] = Client(f"c{number}", state, tenant.rules_of(settings), stored)
    return tenant


def test_scopes_supported_are_those_of_all_clients() -> None:
    """Each once, sorted."""
    assert metadata_of(with_scopes("read write", "admin read", ""))["scopes_supported"] == ["admin", "read", "write"]


def test_too_many_scopes_are_left_out_of_the_metadata() -> None:
    """RFC 8414 §2 permits that; the rest still fits into a message of the broker."""
    few = with_scopes("read")
    many = with_scopes(*(f"{number:01000}" for number in range(1100)))
    found = metadata_of(many)
    expected = metadata_of(few)
    del expected["scopes_supported"]
    assert found == expected
    most = with_scopes(*(f"{number:064}" for number in range(MAX_SCOPES_CHARACTERS // 64)))
    assert len(cast("list[str]", metadata_of(most)["scopes_supported"])) == MAX_SCOPES_CHARACTERS // 64
    assert len(msgspec.json.encode(metadata_of(most))) < 2 * MAX_SCOPES_CHARACTERS


async def test_public_replies_are_made_once_for_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made again after a change of the tenant, and after a second, since retired keys expire."""
    tenant, made, now = with_scopes("read"), [0], [1000.0]

    def describe(tenant: Tenant) -> dict[str, Any]:
        made[0] += 1
        return {"scopes": sorted(client.rules.scope for client in tenant.clients.values())}

    monkeypatch.setattr(discovery, "metadata_of", describe)
    monkeypatch.setattr(discovery, "jwks_of", describe)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    registry = Registry(cast("Any", None), Keyring({1: b"k" * 32}))
    registry._tenants["acme"] = tenant

    async def known(_name: str) -> Tenant:
        return tenant

    context = cast("Context", SimpleNamespace(registry=SimpleNamespace(tenant=known)))
    asked = Request("acme", "", b"", {})
    for _ in range(1000):
        assert (
            await discovery.metadata(context, asked) == await discovery.jwks(context, asked) == b'{"scopes":["read"]}'
        )
    assert made == [2]
    events: tuple[ClientEvent, ...] = (ClientConfigured(ClientSettings()),)
    commit = Commit(VERSION, "id", clock.now(), "operator", None, 0, events, ClientState())
    registry.apply(StoredMessage(9, "tokens.acme.client.other", codec.encode(commit)))
    assert await discovery.metadata(context, asked) == b'{"scopes":["","read"]}'
    assert made == [3]
    now[0] += discovery.REPLY_MAX_AGE_SECONDS
    await discovery.metadata(context, asked)
    assert made == [4]
