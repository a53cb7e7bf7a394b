"""Revoking: a whole family, or one access token (RFC 7009, CONTRACT §5)."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.aggregates.family import REVOKED_ONE_BY_ONE, FamilyRevoked, FamilyState, RevocationReason, TokenRevoked
from service.decide.access_token_claims import AccessTokenClaims, is_revoked, matches
from service.decide.decision import Decision, Done, Refused
from service.decide.refresh_token import forged
from service.errors import OAuthError

KEPT = REVOKED_ONE_BY_ONE
KEPT_FOR_OTHERS = KEPT // 2
"""Who has exchanged tokens of the family may use up so many, and never what its own client needs."""
TOO_MANY = (
    f"{KEPT_FOR_OTHERS} access tokens of this grant are revoked one by one already; try again when some have expired"
)


class Revoke(NamedTuple):
    """End the family: an operator does."""

    reason: RevocationReason
    cause: str


class RevokeRefreshToken(NamedTuple):
    """End the family that an authentic refresh token of this `generation` is of; `client_id` is the caller's."""

    client_id: str
    generation: int
    cause: str


class RevokeAccessToken(NamedTuple):
    """End one access `token`, which ends at `expires_at` by itself; the family lives. `client_id` is the caller's.

    `skew` is how far two replicas' clocks may be apart: for so long after its end another one may call the token
    alive. `cause` names the request, should it end the family after all.
    """

    now: datetime
    client_id: str
    token: AccessTokenClaims
    expires_at: datetime
    skew: timedelta
    cause: str


def revoke(state: FamilyState | None, command: Revoke) -> Decision:
    """`Done` also for a family that is unknown or dead already."""
    if state is None or state.revoked is not None:
        return Decision(Done())
    return Decision(Done(), (FamilyRevoked(command.reason, command.cause),))


def revoke_refresh_token(state: FamilyState | None, command: RevokeRefreshToken) -> Decision:
    """`Done` also for a family that is unknown or dead already, and for a forged token.

    Another client's token is left alone, and the answer is that to a forged one: it tells nothing (RFC 7009 §2.2).
    """
    if state is None or state.client_id != command.client_id:
        return Decision(Done())
    if state.generation is None or command.generation > state.generation:
        return Decision(Done(), forged(state, command.generation, command.client_id, command.cause))
    return revoke(state, Revoke("client_request", command.cause))


def revoke_access_token(state: FamilyState | None, command: RevokeAccessToken) -> Decision:
    """`Done` also for a token that is dead already, that the log does not bear out, or that is another client's.

    Beyond `KEPT` the family ends, as its own client may have it do (RFC 7009 §2.1); others are `Refused` before.
    """
    token = command.token
    if state is None or not matches(state, token) or token.client_id != command.client_id:
        return Decision(Done())
    kept_until = command.expires_at + command.skew
    if is_revoked(state, token) or kept_until <= command.now:
        return Decision(Done())
    kept = sum(until > command.now for until in state.revoked_jtis.values())
    if command.client_id != state.client_id and kept >= KEPT_FOR_OTHERS:
        return Decision(Refused(OAuthError("temporarily_unavailable", TOO_MANY)))
    if kept >= KEPT:
        return revoke(state, Revoke("client_request", command.cause))
    return Decision(Done(), (TokenRevoked(token.jti, command.expires_at, kept_until=kept_until),))
