"""A plain refresh is followed in one step: as far as it goes, that is what `evolve` and the rules give."""

from datetime import timedelta
from itertools import combinations_with_replacement
from typing import Any

import pytest
from msgspec.structs import replace

from events import following
from events.family import (
    AccessToken,
    Code,
    FamilyState,
    Retry,
    Revocation,
    TokenIssued,
    TokenRedeemed,
    TokenRotated,
    fold,
)
from events.following import REFRESHES, follow, plainly_refreshed
from tests.events.test_rules import OPENED, SCOPE, access, rotated
from tests.projections.logs import AUDIENCE, START

AT = START + timedelta(seconds=3)
STATE = fold(None, OPENED, START)
PLAIN = rotated(0, AT)
SOON, LATER, PAST = AT + timedelta(minutes=1), AT + timedelta(days=20), AT - timedelta(microseconds=1)
TIMES = [SOON, LATER, PAST, AT]


FIELDS: list[tuple[int, dict[str, list[Any]]]] = [
    (
        0,
        {
            "generation": [None, 1],
            "expires_at": [None, *TIMES],
            "family_expires_at": [None, *TIMES],
            "revoked": [Revocation(START, "operator")],
            "revoked_jtis": [{"1": LATER}, {"2": LATER}],
            "access": [None, AccessToken("1", "read", AUDIENCE, START, SOON)],
            "scope": ["", "read", "write"],
            "audience": [(), ("https://other.example",)],
            "code": [Code(LATER, "challenge")],
            "retry": [Retry("a", "b")],
        },
    ),
    (
        1,
        {
            "credential": ["authorization_code", "device_code"],
            "generation": [1],
            "retry": [Retry("c", "d")],
            "expires_at": TIMES,
            "family_expires_at": TIMES,
        },
    ),
    (
        2,
        {
            "from_generation": [1],
            "to_generation": [0, 2],
            "expires_at": TIMES,
            "key": [2],
            "family_expires_at": TIMES,
        },
    ),
    (
        3,
        {
            "kind": ["refresh", "id"],
            "scope": ["", SCOPE, "write", "read admin"],
            "audience": [(), ("https://other.example",)],
            "expires_at": TIMES,
            "jti": [None, "0", "2"],
            "generation": [0],
            "client_id": ["web", "orders"],
            "act": [("orders",)],
            "exchanged_from": [("0",)],
        },
    ),
    (4, {"kind": ["access", "refresh"], "scope": ["", "write"], "expires_at": TIMES, "generation": [0]}),
]
"""Of the state, and of each event of a refresh: what a field may be otherwise."""
CHANGES = [(place, name, value) for place, fields in FIELDS for name, values in fields.items() for value in values]


def step_by_step(state: FamilyState, events: tuple[Any, ...]) -> Any:
    """What `follow` gives where no commit is a plain refresh; or why `evolve` refuses."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(following, "REFRESHES", set())
        try:
            return follow(state, events, AT)
        except ValueError as refused:
            return refused


def test_one_step_is_all_of_them() -> None:
    """ADR 0027: with any two fields otherwise, whatever it lets pass, every rule does, and the state is the same."""
    for changes in combinations_with_replacement(CHANGES, 2):
        things: list[Any] = [STATE, *PLAIN, TokenIssued("id", "read", ("web",), SOON, jti="1")]
        for place, name, value in changes:
            things[place] = replace(things[place], **{name: value})
        for events in (tuple(things[1:4]), tuple(things[1:])):
            found = plainly_refreshed(things[0], events, AT)
            if found is not None:
                assert step_by_step(things[0], events) == (found, None), changes


@pytest.mark.parametrize(
    "events", [PLAIN, (*PLAIN, TokenIssued("id", "read", ("web",), SOON, jti="1"))], ids=["OAuth", "OpenID"]
)
def test_a_plain_refresh_is_one_step(events: tuple[Any, ...]) -> None:
    """It is what nearly all of a log is made of."""
    assert tuple(map(type, events)) in REFRESHES
    found = plainly_refreshed(STATE, events, AT)
    assert found is not None and follow(STATE, events, AT) == (found, None) == step_by_step(STATE, events)


def test_what_is_not_plain_is_looked_at_step_by_step() -> None:
    """Such as a family's end brought nearer: the one step does not know it, the steps do."""
    nearer = (TokenRedeemed("refresh_token", 0), TokenRotated(0, 1, SOON, 1, SOON), access(AT, "1"))
    assert plainly_refreshed(STATE, nearer, AT) is None
    after, why = follow(STATE, nearer, AT)
    assert after is not None and (after.family_expires_at, why) == (SOON, None)
