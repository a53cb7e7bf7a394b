"""Rates are checked first, and invented names create no buckets and use up no other rate."""

from typing import Any, cast

import pytest

from events.aggregates.client import ClientState
from events.aggregates.settings import ClientSettings
from events.log.stored_message import StoredMessage
from service.errors import OAuthError
from service.keys.keyring import Keyring
from service.registry.registry import Registry
from service.registry.tenant import Client, Tenant
from service.request_rates import (
    ASSERTIONS_PER_SECOND,
    COMPANY_SECONDS,
    EDGE_PER_SECOND,
    LOOKS_PER_SECOND,
    NOBODYS,
    PERSONS_PER_SECOND,
    PUBLIC_PER_SECOND,
    STRANGER,
    RequestRates,
)

RATE = 20


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def registry() -> Registry:
    """A registry with the tenants `acme` and `globex`, each with the clients `web` and `tv`."""
    registry = Registry(cast("Any", None), Keyring({1: b"k" * 32}))
    for name in ("acme", "globex"):
        tenant = registry._tenants[name] = Tenant(name, Keyring({1: b"k" * 32}))
        settings = ClientSettings(requests_per_second=RATE)
        for client_id in ("web", "tv"):
            stored = StoredMessage(1, f"tokens.{name}.client.{client_id}", b"")
            tenant.clients[client_id] = Client(client_id, ClientState(settings), tenant.rules_of(settings), stored)
    return registry


def spent(ask: Any, *names: Any) -> int:
    """How many of these are admitted at one moment."""
    for count in range(20_000):
        try:
            ask(*names)
        except OAuthError as refusal:
            assert refusal.code == "slow_down"
            return count
    raise AssertionError("without end")


def test_every_requester_has_its_own_rate(registry: Registry) -> None:
    """Other clients, tenants and kinds of request are not affected."""
    clock = _Clock()
    rates = RequestRates(registry, clock)
    for tenant in ("acme", "globex"):
        assert spent(rates.client, tenant, "web") == spent(rates.client, tenant, "tv") == RATE
        assert spent(rates.person, tenant, "web") == PERSONS_PER_SECOND
        assert spent(rates.edge, tenant) == EDGE_PER_SECOND
        assert spent(rates.public, tenant) == PUBLIC_PER_SECOND
        assert spent(rates.look, tenant) == LOOKS_PER_SECOND
    clock.now += 0.5
    assert spent(rates.client, "acme", "web") == RATE // 2
    assert spent(rates.public, "acme") == PUBLIC_PER_SECOND // 2


def test_a_clients_assertions_are_bounded(registry: Registry) -> None:
    """RFC 7523 §3: the broker stores each for a while; each client has a rate of its own."""
    rates = RequestRates(registry, _Clock())
    web, tv = (registry._tenants["acme"].clients[name] for name in ("web", "tv"))
    assert spent(rates.assertion, web) == spent(rates.assertion, tv) == ASSERTIONS_PER_SECOND


def test_invented_names_share_one_rate_and_create_no_buckets(registry: Registry) -> None:
    """All unknown tenants share one, and so do all unknown clients of a tenant; they are one requester each."""
    rates = RequestRates(registry, _Clock())
    names = (f"nobody-{number}" for number in range(100_000))
    assert spent(lambda: rates.public(next(names))) == LOOKS_PER_SECOND
    for ask in (rates.edge, rates.look, lambda name: rates.client(name, "web")):
        assert spent(ask, next(names)) == 0
    assert rates.public("acme") != (NOBODYS, STRANGER), "a known tenant has its own rate"
    assert spent(lambda: rates.client("acme", next(names))) == LOOKS_PER_SECOND
    assert rates.client("acme", "web") == ("acme", "web") and rates.client("globex", "nobody") == ("globex", STRANGER)
    assert list(registry._tenants) == ["acme", "globex"] and len(registry._tenants["acme"].clients) == 2


def test_no_client_can_have_the_name_of_another_requester(registry: Registry) -> None:
    """The names of requesters that are no clients cannot be registered."""
    rates = RequestRates(registry, _Clock())
    requesters = {rates.edge("acme"), rates.public("acme"), rates.client("acme", "nobody"), rates.public("nobody")}
    assert len(requesters) == 4
    assert all("*" in client_id for _, client_id in requesters)


def test_a_persons_token_uses_none_of_its_clients_rate_or_turns(registry: Registry) -> None:
    """Its holder may flood; the client's own requests go on."""
    rates = RequestRates(registry, _Clock())
    assert spent(rates.person, "acme", "web") == PERSONS_PER_SECOND
    requester = rates.client("acme", "web")
    assert requester == ("acme", "web")
    assert rates.person("acme", "tv") not in (requester, rates.client("acme", "tv"))
    assert rates.person("acme", "nobody") == ("acme", STRANGER)
    assert rates.person("nowhere", "web") == (NOBODYS, STRANGER)


def test_a_client_is_not_alone_for_a_while_after_another_requester(registry: Registry) -> None:
    """Clients and holders of a person's token count; at an edge only authenticated clients do."""
    clock = _Clock()
    rates = RequestRates(registry, clock)
    web, person = rates.client("acme", "web"), ("acme", "*persons of web")
    clock.now += COMPANY_SECONDS
    assert rates.alone() == web
    rates.edge("acme"), rates.public("acme"), rates.client("acme", "nobody")
    assert rates.alone() == rates.client("acme", "web")
    for asks, tenant, other in ((rates.client, "globex", ("globex", "web")), (rates.person, "acme", person)):
        assert asks(tenant, "web") == other and rates.alone() is None
        rates.client("acme", "web")
        assert rates.alone() is None, "the other one came just before"
        clock.now += COMPANY_SECONDS
        assert rates.alone() == web
