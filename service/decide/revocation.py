"""Revoking a whole family, or one access token (RFC 7009, CONTRACT §5)."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.aggregates.family import MAX_REVOKED_TOKENS, FamilyState
from events.aggregates.family_events import FamilyRevoked, RevocationReason, TokenRevoked
from service.decide.access_token_claims import PresentedAccessToken, is_revoked, matches
from service.decide.decision import Decision, Done, Refused
from service.decide.refresh_token import forged
from service.errors import OAuthError

MAX_REVOKED_BY_OTHERS = MAX_REVOKED_TOKENS // 2
"""Clients that exchanged tokens of the family may use up half: the rest is for the family's own client."""
TOO_MANY = (
    f"{MAX_REVOKED_BY_OTHERS} access tokens of this grant are revoked one by one already;"
    " try again when some have expired"
)


class Revoke(NamedTuple):
    """End the family, for an operator."""

    reason: RevocationReason
    cause: str


class RevokeRefreshToken(NamedTuple):
    """End the family of an authentic refresh token of this `generation`; `client_id` is the caller's."""

    client_id: str
    generation: int
    cause: str


class RevokeAccessToken(NamedTuple):
    """Revoke one access `token`, which expires at `expires_at`; the family lives. `client_id` is the caller's.

    `skew` is how far two replicas' clocks may be apart: another replica may accept the token for so long after it has
    expired. `cause` names the request, for the case that the family must end.
    """

    now: datetime
    client_id: str
    token: PresentedAccessToken
    expires_at: datetime
    skew: timedelta
    cause: str


def revoke(state: FamilyState | None, command: Revoke) -> Decision:
    """`Done`, also for a family that is unknown or has ended already."""
    if state is None or state.revoked is not None:
        return Decision(Done())
    return Decision(Done(), (FamilyRevoked(command.reason, command.cause),))


def revoke_refresh_token(state: FamilyState | None, command: RevokeRefreshToken) -> Decision:
    """`Done`, also for a family that is unknown or has ended already, and for a forged token.

    Another client's token is not revoked. The outcome is the same, so it does not tell that it exists (RFC 7009 §2.2).
    """
    if state is None or state.client_id != command.client_id:
        return Decision(Done())
    if state.generation is None or command.generation > state.generation:
        return Decision(Done(), forged(state, command.generation, command.client_id, command.cause))
    return revoke(state, Revoke("client_request", command.cause))


def revoke_access_token(state: FamilyState | None, command: RevokeAccessToken) -> Decision:
    """`Done`, also for a token that has expired or is revoked already, is not the family's, or is another client's.

    If `MAX_REVOKED_TOKENS` are revoked already, the family ends, as its own client may order (RFC 7009 §2.1). Other
    clients are `Refused` beyond `MAX_REVOKED_BY_OTHERS`.
    """
    token = command.token
    if state is None or not matches(state, token) or token.claims.client_id != command.client_id:
        return Decision(Done())
    kept_until = command.expires_at + command.skew
    if is_revoked(state, token) or kept_until <= command.now:
        return Decision(Done())
    kept = sum(until > command.now for until in state.revoked_jtis.values())
    if command.client_id != state.client_id and kept >= MAX_REVOKED_BY_OTHERS:
        return Decision(Refused(OAuthError("temporarily_unavailable", TOO_MANY)))
    if kept >= MAX_REVOKED_TOKENS:
        return revoke(state, Revoke("client_request", command.cause))
    return Decision(Done(), (TokenRevoked(token.claims.jti, command.expires_at, kept_until=kept_until),))
