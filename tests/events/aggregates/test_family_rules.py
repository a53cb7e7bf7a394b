"""Each rule of a family's events alone, at its limits."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_args, get_type_hints

import pytest
from msgspec.structs import replace

from events.aggregates import family_rules
from events.aggregates.family import (
    DEVICE_GRANT,
    MAX_LATE_DUPLICATES,
    MAX_RECORDED_AFTER_END,
    MAX_REVOKED_TOKENS,
    AccessToken,
    Code,
    Device,
    FamilyState,
    Revocation,
    fold,
)
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    LateDuplicateRefused,
    Retry,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)
from tests.events.verification.test_impossible_histories import END, OPENED, SCOPE, access
from tests.projections.logs import AUDIENCE, START

TICK = timedelta(microseconds=1)
AT = START + timedelta(seconds=3)
SOON = AT + timedelta(minutes=1)
STATE = fold(None, OPENED, START)
"""A family of generation 0 with an access token `0`."""
CODE = Code(SOON, "challenge")
OTHER = ("https://other.example",)


@dataclass
class Case:
    """The complaint of a rule about an event in this state at this time; '' for none."""

    state: dict[str, Any]
    event: Any
    complaint: str = ""
    at: Any = AT


def holds(rule: family_rules.EventRule, case: Case) -> None:
    state: FamilyState = replace(STATE, **case.state)
    assert (rule(state, case.event, case.at) or "") == case.complaint, case


REFRESH = TokenRedeemed(0, "refresh_token")
BY_CODE, BY_DEVICE = TokenRedeemed(0, "authorization_code"), TokenRedeemed(0, "device_code")


@pytest.mark.parametrize(("afterwards", "may"), [(0, True), (MAX_RECORDED_AFTER_END - 1, True), (3, False), (9, False)])
def test_after_the_end_few_are_recorded(afterwards: int, may: bool) -> None:
    complaint = "" if may else "more was recorded than is after the end"
    holds(family_rules.few_records_after_the_end, Case({"afterwards": afterwards}, None, complaint))


@pytest.mark.parametrize(
    "case",
    [
        Case({}, REFRESH),
        Case({"generation": 2}, TokenRedeemed(2, "refresh_token")),
        Case({"generation": 2}, REFRESH, "generation 0 was redeemed, the newest was 2"),
        Case({"generation": None}, REFRESH, "generation 0 was redeemed, the newest was None"),
        Case({"generation": 2}, BY_CODE),
    ],
)
def test_the_newest_is_redeemed(case: Case) -> None:
    holds(family_rules.the_newest_is_redeemed, case)


LATE = "the {} that was redeemed had expired"


@pytest.mark.parametrize(
    "case",
    [
        Case({"expires_at": SOON, "family_ttl": SOON - START}, REFRESH, at=SOON - TICK),
        Case({"expires_at": SOON, "family_ttl": END - START}, REFRESH, LATE.format("refresh_token"), SOON),
        Case({"expires_at": END, "family_ttl": SOON - START}, REFRESH, LATE.format("refresh_token"), SOON),
        Case({"expires_at": None, "family_ttl": SOON - START}, REFRESH, LATE.format("refresh_token"), SOON),
        Case({"expires_at": None, "family_ttl": None}, REFRESH),
        Case({"expires_at": START, "code": CODE}, BY_CODE, at=SOON - TICK),
        Case({"code": CODE, "device": Device(END)}, BY_CODE, LATE.format("authorization_code"), SOON),
        Case({"code": CODE, "device": Device(END)}, BY_DEVICE, at=SOON),
        Case({"code": replace(CODE, expires_at=END), "device": Device(SOON)}, BY_DEVICE, at=SOON - TICK),
        Case({"device": Device(SOON)}, BY_DEVICE, LATE.format("device_code"), SOON),
        Case({}, BY_CODE),
        Case({}, BY_DEVICE),
    ],
)
def test_nothing_is_redeemed_too_late(case: Case) -> None:
    holds(family_rules.nothing_is_redeemed_too_late, case)


APPROVED = Device(SOON, "approved")


@pytest.mark.parametrize(
    "case",
    [
        Case({"code_redeemed": True}, REFRESH),
        Case({"code": CODE}, BY_CODE),
        Case({"device": APPROVED}, BY_DEVICE),
        Case({"code": CODE, "code_redeemed": True}, BY_CODE, "a code was redeemed twice"),
        Case({"device": APPROVED, "code_redeemed": True}, BY_DEVICE, "a code was redeemed twice"),
        Case({"device": APPROVED}, BY_CODE, "no authorization_code had been given to be redeemed"),
        Case({"code": CODE}, BY_DEVICE, "no device_code had been given to be redeemed"),
        Case({"device": Device(SOON)}, BY_DEVICE, "no device_code had been given to be redeemed"),
        Case({"device": Device(SOON, "denied")}, BY_DEVICE, "no device_code had been given to be redeemed"),
    ],
)
def test_a_code_is_redeemed_once(case: Case) -> None:
    holds(family_rules.a_code_is_redeemed_once, case)


@pytest.mark.parametrize(
    ("redeemed_at", "complaint"),
    [(AT, ""), (None, "a generation was rotated that nobody had redeemed"), (AT - TICK, "a generation was rotated")],
)
def test_a_successor_follows_a_redemption(redeemed_at: Any, complaint: str) -> None:
    state = replace(STATE, redeemed_at=redeemed_at)
    found = family_rules.a_successor_follows_a_redemption(state, TokenRotated(0, 1, END, 1), AT)
    assert found is None if not complaint else found is not None and found.startswith(complaint)


OUTLIVES = "it outlives the end of its family"


def used(expires_at: Any, family: Any = None) -> TokenRedeemed:
    return TokenRedeemed(0, "refresh_token", None, expires_at, family)


@pytest.mark.parametrize(
    "case",
    [
        Case({}, used(END)),
        Case({}, used(END, END)),
        Case({}, used(SOON, SOON)),
        Case({}, used(END + TICK), OUTLIVES),
        Case({}, used(END, END + TICK), OUTLIVES),
        Case({}, used(SOON + TICK, SOON), OUTLIVES),
        Case({"family_ttl": None}, used(END + TICK, END + TICK)),
        Case({}, used(None, END + TICK)),
        Case({}, TokenRotated(0, 1, END, 1, END)),
        Case({}, TokenRotated(0, 1, END, 1, END + TICK), OUTLIVES),
    ],
)
def test_a_refresh_extends_no_family(case: Case) -> None:
    holds(family_rules.a_refresh_extends_no_family, case)


BEYOND = "a token's scope goes beyond the grant"


@pytest.mark.parametrize(
    ("granted", "scope", "complaint"),
    [
        (SCOPE, SCOPE, ""),
        (SCOPE, "offline_access read", ""),
        (SCOPE, "read", ""),
        (SCOPE, "", ""),
        ("", "", ""),
        (SCOPE, "read admin", BEYOND),
        (SCOPE, "reader", BEYOND),
        ("", "read", BEYOND),
        ("read\nwrite", "read", BEYOND),
        (SCOPE, "read\noffline_access", BEYOND),
    ],
)
def test_no_scope_goes_beyond_the_grant(granted: str, scope: str, complaint: str) -> None:
    holds(family_rules.no_scope_beyond_the_grant, Case({"scope": granted}, access(AT, "1", scope), complaint))


@pytest.mark.parametrize(
    "case",
    [
        Case({}, access(AT, "1")),
        Case({"audience": AUDIENCE + OTHER}, access(AT, "1")),
        Case({"audience": AUDIENCE + OTHER}, replace(access(AT, "1"), audience=OTHER + AUDIENCE)),
        Case({}, replace(access(AT, "1"), audience=())),
        Case({}, replace(access(AT, "1"), audience=OTHER), "a token is for a target beyond the grant"),
        Case({}, replace(access(AT, "1"), audience=AUDIENCE + OTHER), "a token is for a target beyond the grant"),
        Case({}, replace(access(AT, "1"), audience=OTHER, client_id="orders")),
        Case({}, TokenIssued("id", "openid", ("web",), SOON)),
        Case({}, replace(OPENED[1], audience=OTHER), "a token is for a target beyond the grant"),
    ],
)
def test_no_target_is_beyond_the_grant(case: Case) -> None:
    holds(family_rules.no_target_beyond_the_grant, case)


@pytest.mark.parametrize(("expires_at", "lives"), [(AT + TICK, True), (AT, False), (AT - TICK, False)])
def test_an_issued_token_is_not_expired(expires_at: Any, lives: bool) -> None:
    complaint = "" if lives else "what was given had already expired"
    for event in (replace(access(AT, "1"), expires_at=expires_at), AuthorizationCodeIssued(expires_at, "challenge")):
        holds(family_rules.a_token_lives, Case({}, event, complaint))


@pytest.mark.parametrize(
    ("expires_at", "family", "complaint"),
    [(END, END, ""), (END + TICK, END, OUTLIVES), (END + TICK, None, ""), (SOON, END, "")],
)
def test_a_refresh_token_ends_with_its_family(expires_at: Any, family: Any, complaint: str) -> None:
    event = replace(OPENED[1], expires_at=expires_at, family_expires_at=family)
    holds(family_rules.a_refresh_token_ends_with_its_family, Case({}, event, complaint))


@pytest.mark.parametrize(
    "case",
    [
        Case({}, access(START, "1"), at=START),
        Case({"redeemed_at": AT}, access(AT, "1")),
        Case({}, access(AT, "1"), "a token was issued for nothing"),
        Case({"redeemed_at": AT - TICK}, access(AT, "1"), "a token was issued for nothing"),
        Case({}, access(AT, "1", client_id="web")),
    ],
)
def test_tokens_come_of_a_grant(case: Case) -> None:
    holds(family_rules.tokens_come_of_a_grant, case)


@pytest.mark.parametrize(
    "case",
    [
        Case({}, access(AT, "1")),
        Case({}, access(AT, "0"), "the jti 0 was given twice"),
        Case({"revoked_jtis": {"1": SOON}}, access(AT, "1"), "the jti 1 was given twice"),
        Case({"access": None}, access(AT, "0")),
        Case({"access": None, "revoked_jtis": {"1": SOON}}, access(AT, "1"), "the jti 1 was given twice"),
        Case({}, TokenIssued("id", "openid", ("web",), SOON, jti="0")),
        Case({"access": AccessToken("2", "read", AUDIENCE, START, SOON)}, access(AT, "2"), "the jti 2 was given twice"),
    ],
)
def test_a_jti_is_given_once(case: Case) -> None:
    holds(family_rules.a_jti_is_given_once, case)


LATER = {"generation": 2}
OF_CODE = TokenReuseDetected(0, 0, "web", "authorization_code")


@pytest.mark.parametrize(
    "case",
    [
        Case(LATER, TokenReuseDetected(1, 2, "web")),
        Case(LATER, TokenReuseDetected(0, 2, "web")),
        Case(LATER, TokenReuseDetected(0, 1, "web"), "it says that generation 1 was the newest"),
        Case(LATER, TokenReuseDetected(2, 2, "web"), "a generation was called reused that was the newest"),
        Case(LATER, TokenReuseDetected(3, 2, "web"), "a generation was called reused that was the newest"),
        Case(
            {"generation": None}, TokenReuseDetected(0, 0, "web"), "a generation was called reused that was the newest"
        ),
        Case({}, OF_CODE),
        Case({"generation": None, "expires_at": AT}, OF_CODE),
        Case({"generation": None}, replace(OF_CODE, current_generation=1), "it says that generation 1 was the newest"),
        Case(
            LATER | {"expires_at": AT},
            TokenReuseDetected(1, 2, "web"),
            "a reuse was found in a family that had expired",
        ),
        Case(LATER | {"expires_at": AT + TICK}, TokenReuseDetected(1, 2, "web")),
        Case(LATER | {"expires_at": None}, TokenReuseDetected(1, 2, "web")),
        Case(LATER | {"expires_at": AT, "revoked": Revocation(START, "operator")}, TokenReuseDetected(1, 2, "web")),
    ],
)
def test_a_reuse_is_of_an_older_one(case: Case) -> None:
    holds(family_rules.a_reuse_is_of_an_older_one, case)


@pytest.mark.parametrize(
    "case",
    [
        Case(LATER, ForgeryDetected(3, 2, "web")),
        Case(LATER, ForgeryDetected(2, 2, "web"), "a generation was called forged that had been issued"),
        Case(LATER, ForgeryDetected(1, 2, "web"), "a generation was called forged that had been issued"),
        Case(LATER, ForgeryDetected(9, 1, "web"), "it says that generation 1 was the newest"),
        Case({"generation": None}, ForgeryDetected(0, 0, "web")),
        Case({}, ForgeryDetected(0, 0, "web"), "a generation was called forged that had been issued"),
        Case({"generation": None}, ForgeryDetected(0, 1, "web"), "it says that generation 1 was the newest"),
    ],
)
def test_a_forgery_was_never_issued(case: Case) -> None:
    holds(family_rules.a_forgery_was_never_issued, case)


@pytest.mark.parametrize(
    ("recorded", "may"), [(0, True), (MAX_LATE_DUPLICATES - 1, True), (MAX_LATE_DUPLICATES, False)]
)
def test_few_late_duplicates_are_recorded(recorded: int, may: bool) -> None:
    complaint = "" if may else "more late duplicates were recorded than are"
    holds(family_rules.few_late_duplicates_are_recorded, Case({"late_duplicates": recorded}, None, complaint))


KEY, OTHER_KEY = Retry("key", "body"), Retry("other", "body")
CALLED_LATE = "a generation was called late that was the newest"


@pytest.mark.parametrize(
    "case",
    [
        Case(LATER, LateDuplicateRefused(0, 2, "web", KEY)),
        Case(LATER, LateDuplicateRefused(1, 2, "web", KEY)),
        Case(LATER | {"retry": KEY}, LateDuplicateRefused(0, 2, "web", KEY)),
        Case(LATER | {"retry": OTHER_KEY}, LateDuplicateRefused(1, 2, "web", KEY)),
        Case(
            LATER | {"retry": KEY},
            LateDuplicateRefused(1, 2, "web", KEY),
            "a repetition of the latest redemption was called late",
        ),
        Case(LATER, LateDuplicateRefused(0, 1, "web", KEY), "it says that generation 1 was the newest"),
        Case(LATER, LateDuplicateRefused(2, 2, "web", KEY), CALLED_LATE),
        Case(LATER, LateDuplicateRefused(3, 2, "web", KEY), CALLED_LATE),
        Case({"generation": None}, LateDuplicateRefused(0, 1, "web", KEY), "it says that generation 1 was the newest"),
        Case(LATER | {"expires_at": AT + TICK}, LateDuplicateRefused(0, 2, "web", KEY)),
        Case(
            LATER | {"expires_at": AT},
            LateDuplicateRefused(0, 2, "web", KEY),
            "a late duplicate was found in a family that had expired",
        ),
        Case(LATER | {"expires_at": None}, LateDuplicateRefused(0, 2, "web", KEY)),
    ],
)
def test_a_late_duplicate_is_of_an_older_one(case: Case) -> None:
    holds(family_rules.a_late_duplicate_is_of_an_older_one, case)


@pytest.mark.parametrize(
    "event",
    [
        TokenReuseDetected(0, 1, "web"),
        ForgeryDetected(0, 1, "web"),
        LateDuplicateRefused(0, 1, "web", KEY),
    ],
)
def test_another_client_changes_nothing(event: Any) -> None:
    holds(family_rules.another_client_changes_nothing, Case({}, event))
    complaint = "another client than the family's presented it"
    holds(family_rules.another_client_changes_nothing, Case({}, replace(event, client_id="other"), complaint))


MANY = {f"r{number}": SOON for number in range(MAX_REVOKED_TOKENS - 1)}
TOO_MANY = "more tokens were revoked one by one than may be"


@pytest.mark.parametrize(
    "case",
    [
        Case({}, TokenRevoked("1", AT + TICK)),
        Case({}, TokenRevoked("1", AT), "a token was revoked that had expired"),
        Case({}, TokenRevoked("1", AT, kept_until=AT + TICK)),
        Case({}, TokenRevoked("1", SOON, kept_until=AT), "a token was revoked that had expired"),
        Case({"revoked_jtis": {"1": SOON}}, TokenRevoked("1", SOON), "a token was revoked twice"),
        Case({"revoked_jtis": {"1": AT}}, TokenRevoked("1", SOON)),
        Case({"revoked_jtis": MANY}, TokenRevoked("1", SOON)),
        Case({"revoked_jtis": MANY | {"x": SOON}}, TokenRevoked("1", SOON), TOO_MANY),
        Case({"revoked_jtis": MANY | {"x": AT}}, TokenRevoked("1", SOON)),
    ],
    ids=lambda case: case.complaint,
)
def test_a_token_is_revoked_once(case: Case) -> None:
    holds(family_rules.a_token_is_revoked_once, case)


WAITING = fold(None, (DeviceAuthorizationStarted("tv", SCOPE, AUDIENCE, "s", SOON),), START)
APPROVAL = GrantAuthorized("tv", "ann", SCOPE, AUDIENCE, DEVICE_GRANT, "s")
NOT_ASKED = "a device was given what it had not asked for"


@pytest.mark.parametrize(
    ("event", "at", "complaint"),
    [
        (APPROVAL, SOON - TICK, ""),
        (APPROVAL, SOON, "a device was answered too late"),
        (DeviceAuthorizationDenied("ann"), SOON - TICK, ""),
        (DeviceAuthorizationDenied("ann"), SOON, "a device was answered too late"),
        (replace(APPROVAL, scope="read", audience=()), AT, ""),
        (replace(APPROVAL, scope=""), AT, ""),
        (replace(APPROVAL, scope="read admin"), AT, NOT_ASKED),
        (replace(APPROVAL, scope="read\noffline_access"), AT, NOT_ASKED),
        (replace(APPROVAL, audience=AUDIENCE + OTHER), AT, NOT_ASKED),
        (replace(APPROVAL, client_id="web"), AT, NOT_ASKED),
        (replace(APPROVAL, seed="t"), AT, NOT_ASKED),
    ],
)
def test_a_person_answers_for_the_device(event: Any, at: Any, complaint: str) -> None:
    assert (family_rules.a_person_answers_for_the_device(WAITING, event, at) or "") == complaint
    assert family_rules.a_person_answers_for_the_device(STATE, event, at) is None, (
        "without a request of a device `evolve` refuses"
    )


def test_a_device_that_asked_for_nothing_is_given_nothing() -> None:
    asked = replace(WAITING, scope="", audience=())
    nothing = replace(APPROVAL, scope="", audience=())
    assert family_rules.a_person_answers_for_the_device(asked, nothing, AT) is None
    assert family_rules.a_person_answers_for_the_device(asked, replace(nothing, scope="read"), AT) == NOT_ASKED
    spaced = replace(WAITING, scope="read\noffline_access")
    assert family_rules.a_person_answers_for_the_device(spaced, replace(APPROVAL, scope="read"), AT) == NOT_ASKED


@pytest.mark.parametrize(
    "case",
    [
        Case({"generation": None}, None, at=START),
        Case({}, None, "a code for nothing", START),
        Case({"generation": None, "code": CODE}, None, "a code for nothing", START),
        Case({"generation": None}, None, "a code for nothing", START + TICK),
    ],
)
def test_a_code_begins_a_family(case: Case) -> None:
    holds(family_rules.a_code_begins_a_family, case)


def test_every_event_has_its_rules() -> None:
    """None is forgotten: an event without a row could not be verified. `evolve` checks those whose row is empty."""
    assert family_rules.EVENT_RULES.keys() | {TokenIssued} == set(get_args(FamilyEvent))
    assert {event for event, rules in family_rules.EVENT_RULES.items() if not rules} == {
        FamilyRevoked,
        DeviceAuthorizationStarted,
    }
    assert family_rules.TOKEN_RULES.keys() == set(get_args(get_type_hints(TokenIssued)["kind"]))
