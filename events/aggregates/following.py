"""Folds a commit's events into an aggregate's state, and checks that they can follow it.

The rules for single events of a family are in `events.aggregates.family_rules`; those for whole commits are here.
"""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec.structs import replace

from events.aggregates.family import AccessToken, FamilyState, evolve
from events.aggregates.family_events import (
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRotated,
)
from events.aggregates.family_rules import (
    EVENT_RULES,
    TOKEN_RULES,
    a_jti_is_given_once,
    a_refresh_extends_no_family,
    a_token_lives,
    no_scope_beyond_the_grant,
    no_target_beyond_the_grant,
    nothing_is_redeemed_too_late,
)

Fold = Callable[[Any, tuple[Any, ...], datetime], tuple[Any, str | None]]
"""`(state, events, at)` → the state after a commit's events, and the text of the rule that they break, or None."""


def folding(evolve: Callable[[Any, Any], Any]) -> Fold:
    """Make the fold of a kind of aggregates without rules."""

    def fold(state: Any, events: tuple[Any, ...], _at: datetime) -> tuple[Any, str | None]:
        for event in events:
            state = evolve(state, event)
        return state, None

    return fold


def time_goes_on(before: datetime, at: datetime) -> str | None:
    """A commit is never earlier than the one before it in its aggregate; writers ensure that."""
    return None if at >= before else f"it is of {at}, the commit before it of {before}"


class _Shape(NamedTuple):
    """Facts that follow from the types of a commit's events. There are few different ones, so they are cached."""

    detects: bool
    ends: bool
    only_records: bool
    gives_nothing: bool


_DETECTIONS = frozenset({TokenReuseDetected, ForgeryDetected})
_CAUSES = {"reuse_detected": TokenReuseDetected, "code_reuse": TokenReuseDetected, "forgery": ForgeryDetected}


@lru_cache(maxsize=1000)
def _shape(types: tuple[type, ...]) -> _Shape:
    gives_nothing = TokenRedeemed in types and TokenIssued not in types
    detects = not _DETECTIONS.isdisjoint(types)
    return _Shape(detects, FamilyRevoked in types, _DETECTIONS.issuperset(types), gives_nothing)


def redemptions_give_tokens(_state: FamilyState | None, _events: tuple[FamilyEvent, ...], shape: _Shape) -> str | None:
    """A presentation of the newest generation consumes it and returns its successor (§3.1)."""
    return "something was redeemed, and nothing was given for it" if shape.gives_nothing else None


def detections_end_the_family(state: FamilyState | None, events: tuple[FamilyEvent, ...], shape: _Shape) -> str | None:
    """A detection ends the family in the same commit (§3.2, §3.7), and no family ends so without a detection."""
    if shape.detects and not shape.ends and (state is None or state.revoked is None):
        return "what was detected did not end the family"
    if shape.ends:
        for event in events:
            cause = _CAUSES.get(event.reason) if isinstance(event, FamilyRevoked) else None
            if cause is not None and not any(isinstance(other, cause) for other in events):
                return "the family ended for a detection, and there was none"
    return None


def nothing_lives_after_the_end(
    state: FamilyState | None, _events: tuple[FamilyEvent, ...], shape: _Shape
) -> str | None:
    """A revoked family stays revoked (§3.5)."""
    ended = state is not None and state.revoked is not None
    return "the family had ended" if ended and not shape.only_records else None


COMMIT_RULES = (redemptions_give_tokens, detections_end_the_family, nothing_lives_after_the_end)


def fold_and_check(
    state: FamilyState | None, events: tuple[FamilyEvent, ...], at: datetime
) -> tuple[FamilyState | None, str | None]:
    """Fold a family's commit: the state after it, and the text of the first rule that it breaks, or None.

    Raises `ValueError` as `evolve` does.
    """
    types = tuple(map(type, events))
    if types in REFRESHES and state is not None and (after := plainly_refreshed(state, events, at)) is not None:
        return after, None
    shape, why = _shape(types), None
    for commit_rule in COMMIT_RULES:
        why = why or commit_rule(state, events, shape)
    for event in events:
        if state is not None and why is None:
            for rule in TOKEN_RULES[event.kind] if isinstance(event, TokenIssued) else EVENT_RULES[type(event)]:
                if (why := rule(state, event, at)) is not None:
                    break
        state = evolve(state, event, at)
    return state, why


REFRESHES = {
    (TokenRedeemed, TokenRotated, TokenIssued),
    (TokenRedeemed, TokenRotated, TokenIssued, TokenIssued),
}


def plainly_refreshed(state: FamilyState, events: tuple[Any, ...], at: datetime) -> FamilyState | None:
    """Fold one of `REFRESHES` in one step; None if it must be done event by event, rule by rule.

    Nine of ten commits of a log are refreshes. The result is that of `evolve`, and is returned only if every rule
    holds: the rules not called here follow from the conditions below (tests/events/aggregates/test_following.py).
    """
    redeemed, rotated, access, *others = events
    if (
        state.generation is None
        or state.revoked is not None
        or redeemed != TokenRedeemed(state.generation, "refresh_token", redeemed.retry)
        or rotated != TokenRotated(state.generation, state.generation + 1, rotated.expires_at, rotated.key)
        or access.jti is None
        or access != TokenIssued("access", access.scope, access.audience, access.expires_at, access.jti)
        or nothing_is_redeemed_too_late(state, redeemed, at)
        or a_refresh_extends_no_family(state, rotated, at)
        or no_scope_beyond_the_grant(state, access, at)
        or no_target_beyond_the_grant(state, access, at)
        or a_token_lives(state, access, at)
        or a_jti_is_given_once(state, access, at)
        or (others and not _are_id_tokens(state, others, at))
    ):
        return None
    return replace(
        state,
        generation=rotated.to_generation,
        key=rotated.key,
        expires_at=rotated.expires_at,
        redeemed_at=at,
        retry=redeemed.retry,
        access=AccessToken(access.jti, access.scope, access.audience, at, access.expires_at),
        code=None,
    )


def _are_id_tokens(state: FamilyState, given: list[TokenIssued], at: datetime) -> bool:
    return all(each.kind == "id" and not any(rule(state, each, at) for rule in TOKEN_RULES["id"]) for each in given)
