"""Redeeming a refresh token: rotation, reuse, retries, expiry (RFC 6749 §6, RFC 9700 §4.14.2, CONTRACT §3)."""

from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from events.aggregates.family import MAX_LATE_DUPLICATES, MAX_RECORDED_AFTER_END, FamilyState
from events.aggregates.family_events import (
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    LateDuplicateRefused,
    Retry,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRotated,
)
from service.decide.cut_off import is_strong_enough
from service.decide.decision import Decision, Granted, Refused, invalid_grant, key_used_otherwise
from service.decide.issue import access_and_id_token, access_token, may_refresh, token_expiry
from service.decide.policy import Rules
from service.decide.scope import narrow, narrow_resources, still
from service.errors import OAuthError


class Redeem(NamedTuple):
    """`client_id` presents the authentic refresh token of `generation`; `scope` and `resource` may be None.

    `jti` and `key` (the current MAC key) are for the tokens to issue; `cause` names the request for the audit.
    `answered_at` is when the broker stored the latest redemption, if that is the family's last commit. `redeemed_with`
    are the digests of the keys that redeemed `generation`, None if nobody has read them.
    """

    now: datetime
    rules: Rules
    client_id: str
    generation: int
    scope: str | None
    resource: tuple[str, ...] | None
    retry: Retry | None
    jti: str
    key: int
    cause: str
    answered_at: datetime | None = None
    redeemed_with: tuple[str, ...] | None = None


def redeem(state: FamilyState | None, command: Redeem) -> Decision:
    """`Granted` with the successor, or `Refused`; a reuse and a forgery also revoke the family.

    The client is checked first: a token that another client presents changes nothing, whatever the token's state.
    """
    if state is None or state.client_id != command.client_id:
        return Decision(invalid_grant())
    if state.generation is None or command.generation > state.generation:
        return Decision(invalid_grant(), forged(state, command.generation, command.client_id, command.cause))
    if state.revoked is not None:
        return _after_the_end(state, command)
    if ends_at(state, command.rules) <= command.now:
        return Decision(invalid_grant())
    if _has_key_of_latest(state, command) and command.generation + 1 >= state.generation:
        return _repeated(state, command.retry)
    if command.generation < state.generation:
        return _again(state, command) if _within_grace(state, command) else _older(state, command)
    if command.rules.required_acr is not None and state.acr not in command.rules.required_acr:
        return Decision(invalid_grant(), (FamilyRevoked("policy_changed", command.cause),))
    return _redeemed(state, command)


def is_accepted(state: FamilyState, rules: Rules, now: datetime) -> bool:
    """Whether the newest refresh token would be accepted now from its client, under the client's rules of today."""
    if state.revoked is not None or state.generation is None or ends_at(state, rules) <= now:
        return False
    try:
        _granted_today(state, rules)
        narrow_resources(None, state.audience, rules.audiences)
    except OAuthError:
        return False
    return is_strong_enough(state, rules)


def _granted_today(state: FamilyState, rules: Rules) -> str:
    """The part of the granted scope that the client may still have. Raises `invalid_grant` if that is too little.

    It is too little if it is empty, or allows no refresh token: then the grant itself is invalid, whatever scope is
    requested (RFC 6749 §5.2, §6). It is valid again when the client gets the scope back.
    """
    scope = still(state.scope, rules.scope)
    if not may_refresh(rules, scope) or (state.scope and not scope):
        raise invalid_grant().error
    return scope


def ends_at(state: FamilyState, rules: Rules) -> datetime:
    """When the current refresh token expires: by the rules it was issued under or by its client's of today."""
    today = token_expiry(given_at(state), _family_expires_at(state, rules), rules)
    return min(state.expires_at or today, today)


def given_at(state: FamilyState) -> datetime:
    """When the current refresh token was issued, which begins its idle time. A code's is its redemption."""
    return state.redeemed_at or state.opened_at


def _redeemed(state: FamilyState, command: Redeem) -> Decision:
    try:
        granted = _granted_today(state, command.rules)
        scope = _scope(state, command, granted)
        audience = narrow_resources(command.resource, state.audience, command.rules.audiences)
    except OAuthError as error:
        return Decision(Refused(error))
    now, rules, generation = command.now, command.rules, command.generation
    access = access_token(now, rules, command.jti, scope, audience)
    issued = access_and_id_token(access, state.client_id, granted)
    family_expires_at = _family_expires_at(state, rules)
    expires_at = token_expiry(now, family_expires_at, rules)
    brought_forward = family_expires_at if family_expires_at != state.family_expires_at else None
    if rules.refresh_token_rotation == "reuse":
        redeemed = TokenRedeemed(generation, "refresh_token", command.retry, expires_at, brought_forward)
        return Decision(Granted(access, generation, state.key), (redeemed, *issued))
    redeemed = TokenRedeemed(generation, "refresh_token", command.retry)
    rotated = TokenRotated(generation, generation + 1, expires_at, command.key, brought_forward)
    return Decision(Granted(access, generation + 1, command.key), (redeemed, rotated, *issued))


def _scope(state: FamilyState, command: Redeem, granted: str) -> str:
    """The new access token's scope. A client may widen a narrowed scope again, up to the granted one."""
    if command.scope is None and command.rules.scope_narrowing == "sticky" and state.access is not None:
        return still(state.access.scope, command.rules.scope) or granted  # nothing of the narrowed scope may be left
    return narrow(command.scope, granted)


def _has_key_of_latest(state: FamilyState, command: Redeem) -> bool:
    """Whether its `Idempotency-Key` is that of the latest redemption."""
    return command.retry is not None and state.retry is not None and command.retry.key == state.retry.key


def _repeated(state: FamilyState, retry: Retry | None) -> Decision:
    if state.retry != retry:
        return Decision(key_used_otherwise())
    return _replay(state)


def _replay(state: FamilyState) -> Decision:
    """The tokens of the latest redemption again: they are computed, so they are the same."""
    if state.access is None or state.generation is None:
        return Decision(invalid_grant())
    return Decision(Granted(state.access, state.generation, state.key))


def _again(state: FamilyState, command: Redeem) -> Decision:
    """The same successor within the grace time. Another scope or resource gets another access token."""
    try:
        granted = _granted_today(state, command.rules)
        scope = _scope(state, command, granted)
        audience = narrow_resources(command.resource, state.audience, command.rules.audiences)
    except OAuthError as error:
        return Decision(Refused(error))
    if state.access is not None and (scope, audience) == (state.access.scope, state.access.audience):
        return _replay(state)
    access = access_token(command.now, command.rules, command.jti, scope, audience)
    issued, *id_token = access_and_id_token(access, state.client_id, granted)
    # with a `client_id` it is a further token: a retry with the redemption's key still gets the redemption's token
    beside = replace(issued, client_id=state.client_id)
    return Decision(Granted(access, state.generation, state.key), (beside, *id_token))


def _within_grace(state: FamilyState, command: Redeem) -> bool:
    """Whether it is the parent of the current generation, and the latest redemption is within the grace time."""
    return command.generation + 1 == state.generation and within_grace(
        state, command.now, command.answered_at, command.rules
    )


def within_grace(state: FamilyState, now: datetime, answered_at: datetime | None, rules: Rules) -> bool:
    """Whether the response to the latest redemption is so recent that it may have been lost (CONTRACT §3.3).

    The time counts from `answered_at`: a broker that was unavailable may have stored the redemption long after its
    decision. A clock that was set back does not lengthen the time.
    """
    since = answered_at or state.redeemed_at
    return since is not None and abs(now - since) < timedelta(seconds=rules.refresh_token_grace)


def _older(state: FamilyState, command: Redeem) -> Decision:
    """A reuse, unless its `Idempotency-Key` shows that it is a late duplicate (CONTRACT §3.8).

    Who has a key that redeemed the generation has sent that request, or has all that its sender had. Either way nobody
    gains a token, and nobody who has the token alone knows the key.
    """
    if command.retry is None:
        return _reused(state, command)
    if command.redeemed_with is None:
        return _reused(state, command)._replace(unless_key_of=command.generation)
    if command.retry.key not in command.redeemed_with:
        return _reused(state, command)
    if state.late_duplicates >= MAX_LATE_DUPLICATES:
        return Decision(invalid_grant())
    late = LateDuplicateRefused(command.generation, state.generation or 0, command.client_id, command.retry)
    return Decision(invalid_grant(), (late,))


def _reused(state: FamilyState, command: Redeem) -> Decision:
    return Decision(invalid_grant(), (_reuse(state, command), FamilyRevoked("reuse_detected", command.cause)))


def _after_the_end(state: FamilyState, command: Redeem) -> Decision:
    if command.generation == state.generation or state.afterwards >= MAX_RECORDED_AFTER_END:
        return Decision(invalid_grant())
    return Decision(invalid_grant(), (_reuse(state, command),))


def forged(state: FamilyState, generation: int, client_id: str, cause: str) -> tuple[FamilyEvent, ...]:
    """The events for an authentic token of a generation that was never issued (CONTRACT §3.7)."""
    if state.afterwards >= MAX_RECORDED_AFTER_END:
        return ()
    detected = ForgeryDetected(generation, state.generation or 0, client_id)
    return (detected,) if state.revoked is not None else (detected, FamilyRevoked("forgery", cause))


def _reuse(state: FamilyState, command: Redeem) -> TokenReuseDetected:
    return TokenReuseDetected(command.generation, state.generation or 0, command.client_id)


def _family_expires_at(state: FamilyState, rules: Rules) -> datetime:
    """When the family ends. A shorter policy holds from the next redemption on; a longer one does not extend it."""
    promised = state.family_expires_at or state.opened_at
    return min(promised, state.opened_at + timedelta(seconds=rules.refresh_token_ttl))
