"""Whose token a service may exchange, and for what: the rules of RFC 8693, decided on the log's state."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.aggregates.family import GrantAuthorized, TokenIssued
from service.decide.decision import Granted, Refused
from service.decide.policy import ANY
from service.decide.scope import audience_of, check_audience, narrow_resources, still
from service.decide.token_exchange import Exchange, exchange
from service.errors import OAuthError
from tests.service.decide.given import RULES, at, claimed, exchanging, given, opened

TOKEN = claimed("alice", "web", "an earlier one", "read write")
STRANGER = replace(RULES, may_exchange=())
ISSUER, API = "https://acme.example", "https://api.example"


def answer(command: Exchange) -> str:
    """The scope that is given, or the error."""
    outcome = exchange(given(opened()), command).outcome
    if isinstance(outcome, Refused):
        return outcome.error.code
    assert isinstance(outcome, Granted)
    return outcome.access.scope


@pytest.mark.parametrize(
    ("fields", "may"),
    [
        ({}, False),
        ({"subject_audience": ("https://other.example", "orders")}, True),
        ({"subject_audience": (API,), "known_as": ("orders", API)}, True),
        ({"subject_audience": (API,)}, False),
        ({"rules": replace(STRANGER, may_exchange=("web",))}, True),
        ({"rules": replace(STRANGER, may_exchange=("billing",))}, False),
        ({"rules": replace(STRANGER, audiences=(ANY,))}, False),
        ({"client_id": "web"}, True),
    ],
)
def test_a_token_that_is_none_of_the_clients_business_is_not_exchanged(fields: dict[str, Any], may: bool) -> None:
    """RFC 8693 §2.1, §5: its own, one that is meant for it, or of a client that an operator has named."""
    assert answer(exchanging(TOKEN, **({"rules": STRANGER} | fields))) == ("read write" if may else "invalid_request")


@pytest.mark.parametrize(
    ("asked", "registered", "owner", "expected"),
    [
        (None, "read", RULES.scope, "read"),
        (None, "read write admin offline_access", RULES.scope, "read write"),
        ("read", "read", RULES.scope, "read"),
        ("read write", "read", RULES.scope, "invalid_scope"),
        ("admin", "read admin", RULES.scope, "invalid_scope"),
        (None, "admin", RULES.scope, "invalid_scope"),
        (None, "", RULES.scope, "invalid_scope"),
        (None, "read write", "read", "read"),
        ("write", "read write", "read", "invalid_scope"),
    ],
)
def test_an_exchange_gives_nothing_that_either_client_is_not_registered_for(
    asked: str | None, registered: str, owner: str, expected: str
) -> None:
    """RFC 7591 §2, RFC 8693 §2.1: `svc`, registered for `read`, was given `read write offline_access`."""
    rules = replace(RULES, scope=registered, may_exchange=("web",))
    assert answer(exchanging(TOKEN, asked, rules=rules, owner_scope=owner)) == expected


def test_a_token_without_scope_may_be_exchanged_for_one_without() -> None:
    """There is nothing in it to lose."""
    assert answer(exchanging(TOKEN._replace(scope=""), rules=replace(RULES, scope="", may_exchange=("web",)))) == ""


def test_a_token_is_for_what_the_client_may_have_tokens_for() -> None:
    """RFC 8707 §2: the issuer where nothing is named, what the settings say, or anything where they say so."""
    assert audience_of(None, (ISSUER, API)) == (ISSUER,)
    assert audience_of(API, (ISSUER, API)) == (API,)
    assert audience_of((API, ISSUER), (ISSUER, API)) == (API, ISSUER)
    assert audience_of("https://anything.example", (ISSUER, ANY)) == ("https://anything.example",)
    for audiences in ((ISSUER,), (ISSUER, "https://other.example"), (ISSUER, API + "/")):
        with pytest.raises(OAuthError, match="invalid_target"):
            audience_of((ISSUER, API), audiences)
    with pytest.raises(OAuthError, match="invalid_target"):
        check_audience((ANY,), (ISSUER,))


def test_a_resource_that_was_taken_from_the_client_leaves_its_grants() -> None:
    """RFC 8707 §2.2: no more than was granted, and of that what the client may have today."""
    granted = (ISSUER, API)
    assert narrow_resources(None, granted, (ISSUER,)) == (ISSUER,)
    assert narrow_resources((API,), granted, (ANY,)) == (API,)
    for requested, audiences in (((API,), (ISSUER,)), (None, ("https://other.example",)), (("urn:x",), (ANY,))):
        with pytest.raises(OAuthError, match="invalid_target"):
            narrow_resources(requested, granted, audiences)


def test_a_scope_that_was_taken_from_the_client_leaves_its_grants() -> None:
    """RFC 7591 §2: in the granted order, by whole values."""
    assert still("read write offline_access", "write offline_access readings") == "write offline_access"
    assert still("read", "") == still("", "read") == ""
    assert still("read", "read") == "read"


def test_the_clients_own_token_is_exchanged_for_itself() -> None:
    """A token of `client_credentials` has a client's name for its `sub`."""
    own = (
        GrantAuthorized("orders", "orders", "read", (ISSUER,), "client_credentials", "seed"),
        TokenIssued("access", "read", (ISSUER,), at(300), jti="own"),
    )
    outcome = exchange(given(own), exchanging(claimed("orders", "orders", "own", "read"), rules=STRANGER)).outcome
    assert isinstance(outcome, Granted) and outcome.access.audience == ("bank",)


@pytest.mark.parametrize("large", ["sub", "scope", "audience", "acr", "amr"])
def test_an_exchange_that_makes_no_presentable_token_is_refused(large: str) -> None:
    """CONTRACT §2: whichever part is too large; a family from an earlier log may have such a one."""
    long = "a" * 4000
    fields: dict[str, Any] = {"sub": "alice", "scope": "read", "acr": None, "amr": ()}
    fields |= {"amr": {"amr": (long,)}, "audience": {}}.get(large, {large: long})
    state = replace(given(opened(scope=fields["scope"])), **fields)
    subject = claimed(state.sub, "web", "jti-0", fields["scope"])
    rules = replace(RULES, scope=fields["scope"], may_exchange=("web",))
    command = exchanging(subject, rules=rules, owner_scope=fields["scope"])
    assert len(exchange(given(opened()), exchanging(TOKEN)).events) == 1
    refused = exchange(state, command._replace(audience=(long,) if large == "audience" else ("bank",)))
    assert isinstance(refused.outcome, Refused) and refused.events == ()
    assert refused.outcome.error.code == "invalid_request"
    assert "acr and amr together are longer than 4000 bytes" in refused.outcome.error.description


def test_a_refusal_of_scope_says_whose_scope_it_is() -> None:
    """For the developer of the client."""
    for asked, registered, told in ((None, "admin", "nothing of the subject token's scope"), ("admin", "read", "asks")):
        outcome = exchange(
            given(opened()), exchanging(TOKEN, asked, rules=replace(RULES, scope=registered, may_exchange=("web",)))
        ).outcome
        assert isinstance(outcome, Refused) and told in outcome.error.description
        assert asked is None or "subject token has" in outcome.error.description
