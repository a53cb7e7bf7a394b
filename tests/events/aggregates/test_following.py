"""A plain refresh is followed in one step, with the result of `evolve` and the rules."""

from datetime import timedelta
from itertools import combinations_with_replacement
from typing import Any

import pytest
from msgspec.structs import replace

from events.aggregates import following
from events.aggregates.family import AccessToken, Code, FamilyState, Revocation, fold
from events.aggregates.family_events import (
    FamilyRevoked,
    ForgeryDetected,
    Retry,
    RevocationReason,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRotated,
)
from events.aggregates.following import (
    REFRESHES,
    detections_end_the_family,
    fold_and_check,
    folding,
    nothing_lives_after_the_end,
    plainly_refreshed,
    redemptions_give_tokens,
    time_goes_on,
)
from tests.events.verification.test_impossible_histories import OPENED, SCOPE, access, rotated
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
            "family_ttl": [None, *(time - START for time in TIMES)],
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
"""Other values for each field of the state, and of each event of a refresh."""
CHANGES = [(place, name, value) for place, fields in FIELDS for name, values in fields.items() for value in values]


def step_by_step(state: FamilyState, events: tuple[Any, ...]) -> Any:
    """The result of `fold_and_check` when no commit counts as a plain refresh, or the refusal of `evolve`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(following, "REFRESHES", set())
        try:
            return fold_and_check(state, events, AT)
        except ValueError as refused:
            return refused


def test_the_one_step_agrees_with_evolve_and_the_rules() -> None:
    """ADR 0025: with any two fields changed, a refresh that it accepts passes every rule and gives the same state."""
    for changes in combinations_with_replacement(CHANGES, 2):
        things: list[Any] = [STATE, *PLAIN, TokenIssued("id", "read", ("web",), SOON, jti="1")]
        for place, name, value in changes:
            things[place] = replace(things[place], **{name: value})
        for events in (tuple(things[1:4]), tuple(things[1:])):
            found = plainly_refreshed(things[0], events, AT)
            if found is not None:
                assert step_by_step(things[0], events) == (found, None), changes


@pytest.mark.parametrize(
    "events",
    [
        PLAIN,
        (*PLAIN, TokenIssued("id", "read", ("web",), SOON, jti="1")),
        (TokenRedeemed(0, "refresh_token", Retry("a", "b")), *PLAIN[1:]),
    ],
    ids=["OAuth", "OpenID", "with a key"],
)
def test_a_plain_refresh_is_one_step(events: tuple[Any, ...]) -> None:
    """Nearly all commits of a log are plain refreshes."""
    assert tuple(map(type, events)) in REFRESHES
    found = plainly_refreshed(STATE, events, AT)
    assert found is not None and fold_and_check(STATE, events, AT) == (found, None) == step_by_step(STATE, events)


def test_no_family_begins_with_a_refresh() -> None:
    """A verifier gets the reason, and continues with the next commit."""
    assert tuple(map(type, PLAIN)) in REFRESHES
    with pytest.raises(ValueError, match="a family begins with GrantAuthorized, not with TokenRedeemed"):
        fold_and_check(None, PLAIN, AT)


def test_a_refresh_that_is_not_plain_is_followed_step_by_step() -> None:
    """For example one that brings the family's expiry forward."""
    nearer = (TokenRedeemed(0, "refresh_token"), TokenRotated(0, 1, SOON, 1, SOON), access(AT, "1"))
    assert plainly_refreshed(STATE, nearer, AT) is None
    after, why = fold_and_check(STATE, nearer, AT)
    assert after is not None and (after.family_expires_at, why) == (SOON, None)


ENDED = replace(STATE, revoked=Revocation(START, "operator"))
REUSE, FORGERY = TokenReuseDetected(0, 1, "web"), ForgeryDetected(5, 0, "web")
NOT_ENDED, NONE_THERE = (
    "what was detected did not end the family",
    "the family ended for a detection, and there was none",
)


def ended_for(reason: RevocationReason) -> FamilyRevoked:
    """The end of a family for this reason."""
    return FamilyRevoked(reason, "a test")


@pytest.mark.parametrize(
    ("state", "events", "complaint"),
    [
        (None, (REUSE,), NOT_ENDED),
        (STATE, (REUSE,), NOT_ENDED),
        (STATE, (FORGERY,), NOT_ENDED),
        (ENDED, (REUSE,), None),
        (ENDED, (FORGERY,), None),
        (STATE, (REUSE, ended_for("reuse_detected")), None),
        (STATE, (ended_for("reuse_detected"), REUSE), None),
        (STATE, (REUSE, ended_for("code_reuse")), None),
        (STATE, (FORGERY, ended_for("forgery")), None),
        (STATE, (FORGERY, ended_for("reuse_detected")), NONE_THERE),
        (STATE, (REUSE, ended_for("forgery")), NONE_THERE),
        (STATE, (ended_for("code_reuse"),), NONE_THERE),
        (STATE, (ended_for("operator"), ended_for("forgery")), NONE_THERE),
        (STATE, (REUSE, ended_for("operator")), None),
        (STATE, (ended_for("operator"),), None),
        (STATE, PLAIN, None),
    ],
)
def test_a_detection_ends_the_family(state: FamilyState | None, events: tuple[Any, ...], complaint: str | None) -> None:
    """CONTRACT §3.2, §3.7: in the same commit, and no family ends for a detection that is not there."""
    assert detections_end_the_family(state, events, shape_of(*events)) == complaint


@pytest.mark.parametrize(
    ("state", "events", "complaint"),
    [
        (None, OPENED, None),
        (STATE, PLAIN, None),
        (ENDED, PLAIN, "the family had ended"),
        (ENDED, (REUSE, FORGERY), None),
        (ENDED, (REUSE, PLAIN[2]), "the family had ended"),
    ],
)
def test_nothing_but_records_follows_the_end(
    state: FamilyState | None, events: tuple[Any, ...], complaint: str | None
) -> None:
    """CONTRACT §3.5."""
    assert nothing_lives_after_the_end(state, events, shape_of(*events)) == complaint


def test_a_redemption_gives_something() -> None:
    """CONTRACT §3.1."""
    for events, complaint in (
        (PLAIN, None),
        (PLAIN[2:], None),
        (PLAIN[:2], "something was redeemed, and nothing was given"),
    ):
        answer = redemptions_give_tokens(STATE, events, shape_of(*events))
        assert answer is None if complaint is None else answer is not None and answer.startswith(complaint)


def shape_of(*events: Any) -> Any:
    """The shape that `fold_and_check` finds; it must be the same a second time."""
    types = tuple(map(type, events))
    found = following._shape(types)
    assert following._shape(types) == found
    return found


def test_a_shape_is_found_once() -> None:
    """There are few shapes, and every commit needs one."""
    assert following._shape((TokenReuseDetected,)) is following._shape((TokenReuseDetected,))


def test_the_number_of_cached_shapes_is_bounded() -> None:
    """A foreign writer chooses the shapes of its messages."""
    assert following._shape.cache_parameters()["maxsize"] == 1000


@pytest.mark.parametrize(("later", "complaint"), [(timedelta(0), False), (-timedelta(microseconds=1), True)])
def test_times_do_not_decrease(later: timedelta, complaint: bool) -> None:
    """Two commits may have the same time."""
    answer = time_goes_on(AT, AT + later)
    assert answer == (f"it is of {AT + later}, the commit before it of {AT}" if complaint else None)


def test_the_first_broken_rule_is_named() -> None:
    """The state after all of the events is returned nevertheless."""
    for state, events, complaint in (
        (STATE, (TokenRedeemed(0, "refresh_token"), PLAIN[1]), "something was redeemed"),
        (ENDED, (TokenRedeemed(1, "refresh_token"),), "something was redeemed"),
        (STATE, (TokenRedeemed(1, "refresh_token"), replace(PLAIN[2], scope="admin")), "generation 1 was redeemed"),
        (STATE, (PLAIN[0], replace(PLAIN[2], scope="admin")), "a token's scope"),
    ):
        after, why = fold_and_check(state, events, AT)
        assert why is not None and why.startswith(complaint)
        assert after is not None and (after.redeemed_at == AT or state is ENDED)


def test_events_are_folded_one_after_the_other() -> None:
    """They are folded onto the previous state; aggregates without rules break none."""
    assert folding(lambda state, event: (*state, event))((1,), (2, 3), START) == ((1, 2, 3), None)
