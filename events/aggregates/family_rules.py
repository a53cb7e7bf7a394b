"""Rules that the events of every family obey, whatever the states in its commits (CONTRACT §3): one function a rule.

`evolve` defines how an event changes a state; the rules define which events the service can have written. A rule takes
the state before the event, the event and the commit's time, and returns the text of a violation, or None.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from events.aggregates.family import MAX_LATE_DUPLICATES, MAX_RECORDED_AFTER_END, MAX_REVOKED_TOKENS, FamilyState
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    LateDuplicateRefused,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)

EventRule = Callable[[FamilyState, Any, datetime], str | None]


def few_records_after_the_end(state: FamilyState, _event: Any, _at: datetime) -> str | None:
    """Only a bounded number of later presentations is recorded (§3.5)."""
    return "more was recorded than is after the end" if state.afterwards >= MAX_RECORDED_AFTER_END else None


def the_newest_is_redeemed(state: FamilyState, event: TokenRedeemed, _at: datetime) -> str | None:
    """An older generation would be a reuse (§3.2), and one that was never issued a forgery (§3.7)."""
    if event.credential != "refresh_token" or event.generation == state.generation:
        return None
    return f"generation {event.generation} was redeemed, the newest was {state.generation}"


def nothing_is_redeemed_too_late(state: FamilyState, event: TokenRedeemed, at: datetime) -> str | None:
    """Refresh tokens, codes and device codes expire (§4; RFC 6749 §4.1.2, RFC 8628 §3.2)."""
    if event.credential == "refresh_token":
        end, last = state.expires_at, state.family_expires_at
        expired = (end is not None and end <= at) or (last is not None and last <= at)
    else:
        code = state.code if event.credential == "authorization_code" else state.device
        expired = code is not None and code.expires_at <= at
    return f"the {event.credential} that was redeemed had expired" if expired else None


def a_code_is_redeemed_once(state: FamilyState, event: TokenRedeemed, _at: datetime) -> str | None:
    """A code is redeemed once, and only if it was issued or approved (RFC 6749 §4.1.2, RFC 8628 §3.5)."""
    if event.credential == "refresh_token":
        return None
    if state.code_redeemed:
        return "a code was redeemed twice"
    given = state.code is not None if event.credential == "authorization_code" else _is_approved(state)
    return None if given else f"no {event.credential} had been given to be redeemed"


def _is_approved(state: FamilyState) -> bool:
    return state.device is not None and state.device.status == "approved"


def a_successor_follows_a_redemption(state: FamilyState, _event: TokenRotated, at: datetime) -> str | None:
    """A new generation is in the same commit as the redemption of its parent (§3.1)."""
    return None if state.redeemed_at == at else "a generation was rotated that nobody had redeemed"


def a_refresh_extends_no_family(state: FamilyState, event: TokenRotated | TokenRedeemed, _at: datetime) -> str | None:
    """The end of a family never moves further away (§4, `refresh_token_ttl`)."""
    promised = state.family_expires_at
    if promised is None or event.expires_at is None:
        return None
    end = event.family_expires_at or promised
    return "it outlives the end of its family" if end > promised or event.expires_at > end else None


def no_scope_beyond_the_grant(state: FamilyState, event: TokenIssued, _at: datetime) -> str | None:
    """No token has more scope than the grant (§4; RFC 6749 §6)."""
    if event.scope == state.scope or set(event.scope.split(" ")) <= {*state.scope.split(" "), ""}:
        return None
    return "a token's scope goes beyond the grant"


def no_target_beyond_the_grant(state: FamilyState, event: TokenIssued, _at: datetime) -> str | None:
    """Tokens are for granted targets (RFC 8707 §2.2), except exchanged ones, which are for another service."""
    if event.kind == "id" or event.client_id is not None or event.audience == state.audience:
        return None
    return None if set(event.audience) <= set(state.audience) else "a token is for a target beyond the grant"


def a_token_lives(_state: FamilyState, event: TokenIssued | AuthorizationCodeIssued, at: datetime) -> str | None:
    """Nothing is issued that has already expired."""
    return None if event.expires_at > at else "what was given had already expired"


def a_refresh_token_ends_with_its_family(_state: FamilyState, event: TokenIssued, _at: datetime) -> str | None:
    """A refresh token expires with its family at the latest (§4, `refresh_token_ttl`)."""
    end = event.family_expires_at
    return "it outlives the end of its family" if end is not None and event.expires_at > end else None


def tokens_come_of_a_grant(state: FamilyState, event: TokenIssued, at: datetime) -> str | None:
    """A token is in the same commit as the family's beginning or a redemption, unless it was exchanged."""
    if event.client_id is not None or state.redeemed_at == at or state.opened_at == at:
        return None
    return "a token was issued for nothing"


def a_jti_is_given_once(state: FamilyState, event: TokenIssued, _at: datetime) -> str | None:
    """A `jti` is unique (RFC 7519 §4.1.7); an ID token has that of its access token."""
    if event.kind != "access":
        return None
    twice = event.jti in state.revoked_jtis or (state.access is not None and state.access.jti == event.jti)
    return f"the jti {event.jti} was given twice" if twice else None


def a_reuse_is_of_an_older_one(state: FamilyState, event: TokenReuseDetected, at: datetime) -> str | None:
    """A reuse is of an older generation, in a family that has not expired (§3.2)."""
    if event.current_generation != (state.generation or 0):
        return f"it says that generation {event.current_generation} was the newest"
    if event.credential != "refresh_token":
        return None
    if event.generation >= event.current_generation:
        return "a generation was called reused that was the newest"
    expired = state.revoked is None and state.expires_at is not None and state.expires_at <= at
    return "a reuse was found in a family that had expired" if expired else None


def few_late_duplicates_are_recorded(state: FamilyState, _event: LateDuplicateRefused, _at: datetime) -> str | None:
    """Only a bounded number of them is recorded (§3.8)."""
    return "more late duplicates were recorded than are" if state.late_duplicates >= MAX_LATE_DUPLICATES else None


def a_late_duplicate_is_of_an_older_one(state: FamilyState, event: LateDuplicateRefused, at: datetime) -> str | None:
    """It is of an older generation, of a family that has not expired, and no repetition of the latest redemption."""
    if event.current_generation != state.generation:
        return f"it says that generation {event.current_generation} was the newest"
    if event.generation >= event.current_generation:
        return "a generation was called late that was the newest"
    if state.expires_at is not None and state.expires_at <= at:
        return "a late duplicate was found in a family that had expired"
    latest = state.retry
    repeats = latest is not None and latest.key == event.retry.key and event.generation + 1 == state.generation
    return "a repetition of the latest redemption was called late" if repeats else None


def a_forgery_was_never_issued(state: FamilyState, event: ForgeryDetected, _at: datetime) -> str | None:
    """A forgery has a generation newer than the newest (§3.7)."""
    if event.current_generation != (state.generation or 0):
        return f"it says that generation {event.current_generation} was the newest"
    issued = state.generation is not None and event.generation <= state.generation
    return "a generation was called forged that had been issued" if issued else None


def another_client_changes_nothing(
    state: FamilyState, event: TokenReuseDetected | LateDuplicateRefused | ForgeryDetected, _at: datetime
) -> str | None:
    """A client that presents another client's token cannot end its family (§3.6)."""
    return None if event.client_id == state.client_id else "another client than the family's presented it"


def a_token_is_revoked_once(state: FamilyState, event: TokenRevoked, at: datetime) -> str | None:
    """An access token is revoked once before it expires, and a bounded number of them per family (RFC 7009 §2.1)."""
    if (event.kept_until or event.expires_at) <= at:
        return "a token was revoked that had expired"
    alive = {jti for jti, until in state.revoked_jtis.items() if until > at}
    if event.jti in alive:
        return "a token was revoked twice"
    return "more tokens were revoked one by one than may be" if len(alive) >= MAX_REVOKED_TOKENS else None


def a_person_answers_for_the_device(
    state: FamilyState, event: GrantAuthorized | DeviceAuthorizationDenied, at: datetime
) -> str | None:
    """A person answers in time, and grants no more than the device requested (RFC 8628 §3.3)."""
    if state.device is None:
        return None  # `evolve` raises, as no device asked
    if state.device.expires_at <= at:
        return "a device was answered too late"
    if isinstance(event, DeviceAuthorizationDenied):
        return None
    same = (event.client_id, event.seed) == (state.client_id, state.seed)
    within = set(event.scope.split(" ")) <= {*state.scope.split(" "), ""} and set(event.audience) <= set(state.audience)
    return None if same and within else "a device was given what it had not asked for"


def a_code_begins_a_family(state: FamilyState, _event: AuthorizationCodeIssued, at: datetime) -> str | None:
    """A code is issued once, together with its grant (RFC 6749 §4.1.2)."""
    return None if state.opened_at == at and state.code is None and state.generation is None else "a code for nothing"


EVENT_RULES: dict[type, tuple[EventRule, ...]] = {
    TokenRedeemed: (
        *(the_newest_is_redeemed, nothing_is_redeemed_too_late),
        *(a_code_is_redeemed_once, a_refresh_extends_no_family),
    ),
    TokenRotated: (a_successor_follows_a_redemption, a_refresh_extends_no_family),
    TokenReuseDetected: (few_records_after_the_end, a_reuse_is_of_an_older_one, another_client_changes_nothing),
    ForgeryDetected: (few_records_after_the_end, a_forgery_was_never_issued, another_client_changes_nothing),
    LateDuplicateRefused: (
        *(few_late_duplicates_are_recorded, a_late_duplicate_is_of_an_older_one),
        another_client_changes_nothing,
    ),
    TokenRevoked: (a_token_is_revoked_once,),
    FamilyRevoked: (),  # `evolve` ends a family once
    GrantAuthorized: (a_person_answers_for_the_device,),
    DeviceAuthorizationDenied: (a_person_answers_for_the_device,),
    DeviceAuthorizationStarted: (),  # `evolve` begins a family once
    AuthorizationCodeIssued: (a_code_begins_a_family, a_token_lives),
}
"""The rules for each type of event. `evolve` itself rejects a second end or beginning of a family."""
TOKEN_RULES: dict[str, tuple[EventRule, ...]] = {
    "access": (
        *(no_scope_beyond_the_grant, no_target_beyond_the_grant),
        *(a_token_lives, tokens_come_of_a_grant, a_jti_is_given_once),
    ),
    "refresh": (
        *(no_scope_beyond_the_grant, no_target_beyond_the_grant),
        *(a_token_lives, tokens_come_of_a_grant, a_refresh_token_ends_with_its_family),
    ),
    "id": (no_scope_beyond_the_grant, a_token_lives),
}
"""The rules for `TokenIssued`, by its `kind`."""
