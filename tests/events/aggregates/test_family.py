"""The state of a family after each event, field by field, and the events that cannot follow."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from events.aggregates.family import (
    CLIENT_GRANT,
    DEVICE_GRANT,
    AccessToken,
    Code,
    Device,
    FamilyState,
    Revocation,
    evolve,
    fold,
    is_of_a_person,
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
    revokes,
)

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
LATER, END, LAST = AT + timedelta(minutes=1), AT + timedelta(days=1), AT + timedelta(days=30)
API = ("https://api.example",)

GRANT = GrantAuthorized("web", "alice", "read write", API, "issue", "seed", "mfa", ("pwd", "otp"), 1_700_000_000)
BEGUN = FamilyState(
    "web", "alice", "read write", API, "issue", "seed", AT, acr="mfa", amr=("pwd", "otp"), auth_time=1_700_000_000
)
ASKED = DeviceAuthorizationStarted("tv", "read", API, "seed", END)
WAITING = FamilyState("tv", "", "read", API, DEVICE_GRANT, "seed", AT, device=Device(END))
REFRESH = TokenIssued("refresh", "read", API, END, generation=0, key=3, family_expires_at=LAST)
REFRESHABLE = replace(BEGUN, generation=0, key=3, expires_at=END, family_ttl=LAST - AT)
RETRY = Retry("key", "body")
OVER = replace(REFRESHABLE, revoked=Revocation(AT, "operator"))
REUSE, FORGERY = TokenReuseDetected(0, 1, "web"), ForgeryDetected(9, 1, "web")
LATE = LateDuplicateRefused(0, 2, "web", RETRY)

STEPS: dict[str, tuple[FamilyState | None, Any, FamilyState]] = {
    "a grant": (None, GRANT, BEGUN),
    "a device asks": (None, ASKED, WAITING),
    "a device is approved": (WAITING, GRANT, replace(BEGUN, opened_at=LATER, device=Device(END, "approved"))),
    "a device is denied": (
        WAITING, DeviceAuthorizationDenied("bob"), replace(WAITING, sub="bob", device=Device(END, "denied"))
    ),
    "a code": (
        BEGUN,
        AuthorizationCodeIssued(END, "challenge", "https://app.example/cb", "nonce"),
        replace(BEGUN, code=Code(END, "challenge", "https://app.example/cb", "nonce")),
    ),
    "an access token": (
        BEGUN,
        TokenIssued("access", "read", API, END, jti="j"),
        replace(BEGUN, access=AccessToken("j", "read", API, LATER, END)),
    ),
    "an exchanged token": (BEGUN, TokenIssued("access", "read", API, END, jti="j", client_id="other"), BEGUN),
    "an ID token": (BEGUN, TokenIssued("id", "openid", ("web",), END, jti="j"), BEGUN),
    "a refresh token": (BEGUN, REFRESH, REFRESHABLE),
    "a redeemed code": (
        replace(BEGUN, code=Code(END, "challenge")),
        TokenRedeemed(0, "authorization_code", RETRY),
        replace(BEGUN, code=Code(END, "challenge"), redeemed_at=LATER, retry=RETRY, code_redeemed=True),
    ),
    "a redeemed refresh token": (
        replace(REFRESHABLE, code=Code(END, "challenge"), code_redeemed=True),
        TokenRedeemed(0, "refresh_token", RETRY),
        replace(REFRESHABLE, redeemed_at=LATER, retry=RETRY, code_redeemed=True),
    ),
    "one that stays, with new ends": (
        REFRESHABLE,
        TokenRedeemed(0, "refresh_token", None, LATER, END),
        replace(REFRESHABLE, redeemed_at=LATER, expires_at=LATER, family_ttl=END - AT),
    ),
    "a rotation": (
        REFRESHABLE, TokenRotated(0, 1, LAST, 4), replace(REFRESHABLE, generation=1, key=4, expires_at=LAST)
    ),
    "a rotation that brings the end forward": (
        REFRESHABLE,
        TokenRotated(0, 1, END, 3, END),
        replace(REFRESHABLE, generation=1, expires_at=END, family_ttl=END - AT),
    ),
    "an access token revoked": (
        REFRESHABLE, TokenRevoked("j", END, kept_until=LAST), replace(REFRESHABLE, revoked_jtis={"j": LAST})
    ),
    "without a time to keep it, and one that may be forgotten": (
        replace(REFRESHABLE, revoked_jtis={"gone": LATER, "kept": END}),
        TokenRevoked("j", END),
        replace(REFRESHABLE, revoked_jtis={"kept": END, "j": END}),
    ),
    "the end": (REFRESHABLE, FamilyRevoked("operator", "asked"), replace(OVER, revoked=Revocation(LATER, "operator"))),
    "reuse before the end": (REFRESHABLE, REUSE, REFRESHABLE),
    "reuse after it": (OVER, REUSE, replace(OVER, afterwards=1)),
    "a late duplicate": (replace(REFRESHABLE, late_duplicates=1), LATE, replace(REFRESHABLE, late_duplicates=2)),
    "forgery after it": (replace(OVER, afterwards=1), FORGERY, replace(OVER, afterwards=2)),
}  # fmt: skip

IMPOSSIBLE: dict[str, tuple[FamilyState | None, Any]] = {
    "begins with a token": (None, REFRESH),
    "begins twice": (BEGUN, GRANT),
    "a device asks in a family": (BEGUN, ASKED),
    "a device asks twice": (WAITING, ASKED),
    "approved after a denial": (replace(WAITING, device=Device(END, "denied")), GRANT),
    "denied where nobody asked": (BEGUN, DeviceAuthorizationDenied("bob")),
    "an access token without a name": (BEGUN, TokenIssued("access", "read", API, END)),
    "a first refresh token twice": (REFRESHABLE, REFRESH),
    "a first refresh token of generation 1": (BEGUN, replace(REFRESH, generation=1)),
    "rotated from another generation": (REFRESHABLE, TokenRotated(1, 2, END, 3)),
    "rotated past a generation": (REFRESHABLE, TokenRotated(0, 2, END, 3)),
    "ended twice": (OVER, FamilyRevoked("operator", "asked")),
}


@pytest.mark.parametrize("step", STEPS)
def test_each_event_changes_only_its_own_fields(step: str) -> None:
    before, event, after = STEPS[step]
    assert evolve(before, event, AT if before is None else LATER) == after


@pytest.mark.parametrize("step", IMPOSSIBLE)
def test_an_event_that_cannot_follow_is_refused(step: str) -> None:
    """The reason names what does not fit."""
    before, event = IMPOSSIBLE[step]
    with pytest.raises(ValueError, match=r"family|generation|rotated|jti"):
        evolve(before, event, AT)


def test_a_wrong_first_event_is_named() -> None:
    """The verification of a log shows its type."""
    with pytest.raises(ValueError, match=r"^a family begins with GrantAuthorized, not with TokenIssued$"):
        evolve(None, REFRESH, AT)


def test_a_commit_is_folded_in_order() -> None:
    """All events of a commit have one time; without events there is no state."""
    assert fold(None, (GRANT, REFRESH), AT) == REFRESHABLE
    assert fold(REFRESHABLE, (), AT) == REFRESHABLE
    with pytest.raises(ValueError, match="at least one event"):
        fold(None, (), AT)


def test_revoking_events_are_recognised() -> None:
    """Wherever in the commit it is. Every type of event is one or the other."""
    ending: tuple[FamilyEvent, ...] = (FamilyRevoked("operator", "asked"), TokenRevoked("j", END), REUSE, FORGERY)
    code, denied = AuthorizationCodeIssued(END, "challenge"), DeviceAuthorizationDenied("bob")
    ordinary: tuple[FamilyEvent, ...] = (
        GRANT,
        ASKED,
        REFRESH,
        TokenRotated(0, 1, END, 3),
        TokenRedeemed(0, "refresh_token"),
        LATE,
        code,
        denied,
    )
    for event in ending:
        assert revokes((event,)) and revokes((GRANT, event))
    for event in ordinary:
        assert not revokes((event,))
    assert {type(event) for event in (*ending, *ordinary)} == set(get_args(FamilyEvent))
    assert is_of_a_person(BEGUN) and not is_of_a_person(replace(BEGUN, grant=CLIENT_GRANT))
