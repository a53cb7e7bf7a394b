"""Which tokens a service may exchange, and for what (RFC 8693)."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.aggregates.family_events import GrantAuthorized, TokenIssued
from service.decide.decision import Granted, Refused
from service.decide.policy import ANY
from service.decide.scope import audience_of, check_audience, narrow_resources, still
from service.decide.token_exchange import Exchange, exchange
from service.errors import OAuthError
from tests.service.decide.given import RULES, altered, at, claimed, exchanging, given, opened

TOKEN = claimed("alice", "web", "an earlier one", "read write")
STRANGER = replace(RULES, may_exchange=())
ISSUER, API = "https://acme.example", "https://api.example"


def answer(command: Exchange) -> str:
    """The scope of the issued token, or the error's code."""
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
def test_a_client_exchanges_only_tokens_that_concern_it(fields: dict[str, Any], may: bool) -> None:
    """RFC 8693 §2.1, §5: its own, those meant for it, and those of clients that an operator named."""
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
    """RFC 7591 §2, RFC 8693 §2.1: not even by a service that may exchange tokens of a wide scope."""
    rules = replace(RULES, scope=registered, may_exchange=("web",))
    assert answer(exchanging(TOKEN, asked, rules=rules, owner_scope=owner)) == expected


def test_a_token_without_scope_is_exchanged_for_one_without() -> None:
    assert answer(exchanging(altered(TOKEN, scope=""), rules=replace(RULES, scope="", may_exchange=("web",)))) == ""


def test_the_audience_of_a_token_is_one_its_client_may_name() -> None:
    """RFC 8707 §2: the issuer by default, otherwise what the settings list, or anything if they say so."""
    assert audience_of(None, (ISSUER, API)) == (ISSUER,)
    assert audience_of(API, (ISSUER, API)) == (API,)
    assert audience_of((API, ISSUER), (ISSUER, API)) == (API, ISSUER)
    assert audience_of("https://anything.example", (ISSUER, ANY)) == ("https://anything.example",)
    for audiences in ((ISSUER,), (ISSUER, "https://other.example"), (ISSUER, API + "/")):
        with pytest.raises(OAuthError, match="invalid_target"):
            audience_of((ISSUER, API), audiences)
    with pytest.raises(OAuthError, match="invalid_target"):
        check_audience((ANY,), (ISSUER,))


def test_a_removed_resource_leaves_existing_grants() -> None:
    """RFC 8707 §2.2: no more than was granted, and of that only what the client may have now."""
    granted = (ISSUER, API)
    assert narrow_resources(None, granted, (ISSUER,)) == (ISSUER,)
    assert narrow_resources((API,), granted, (ANY,)) == (API,)
    for requested, audiences in (((API,), (ISSUER,)), (None, ("https://other.example",)), (("urn:x",), (ANY,))):
        with pytest.raises(OAuthError, match="invalid_target"):
            narrow_resources(requested, granted, audiences)


def test_a_removed_scope_leaves_existing_grants() -> None:
    """RFC 7591 §2: the rest is in the granted order, by whole values."""
    assert still("read write offline_access", "write offline_access readings") == "write offline_access"
    assert still("read", "") == still("", "read") == ""
    assert still("read", "read") == "read"


def test_a_clients_own_token_can_be_exchanged_by_itself() -> None:
    """The `sub` of a token of `client_credentials` is its client."""
    own = (
        GrantAuthorized("orders", "orders", "read", (ISSUER,), "client_credentials", "seed"),
        TokenIssued("access", "read", (ISSUER,), at(300), jti="own"),
    )
    outcome = exchange(given(own), exchanging(claimed("orders", "orders", "own", "read"), rules=STRANGER)).outcome
    assert isinstance(outcome, Granted) and outcome.access.audience == ("bank",)


@pytest.mark.parametrize("large", ["sub", "scope", "audience", "acr", "amr"])
def test_an_exchange_too_large_for_a_token_is_refused(large: str) -> None:
    """CONTRACT §2: whichever part is too large; families in earlier logs may have such parts."""
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


def test_a_refusal_of_scope_says_what_lacks_it() -> None:
    """For the developer of the client."""
    for asked, registered, reason in (
        (None, "admin", "nothing of the subject token's scope"),
        ("admin", "read", "asks"),
    ):
        outcome = exchange(
            given(opened()), exchanging(TOKEN, asked, rules=replace(RULES, scope=registered, may_exchange=("web",)))
        ).outcome
        assert isinstance(outcome, Refused) and reason in outcome.error.description
        assert asked is None or "subject token has" in outcome.error.description
