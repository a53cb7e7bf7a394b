"""Revoking: a whole family, or one access token (RFC 7009, CONTRACT §5)."""

from datetime import datetime
from typing import NamedTuple

from events.family import FamilyRevoked, FamilyState, RevocationReason, TokenRevoked
from service.decide.claimed import Claimed, is_borne_out
from service.decide.outcome import Decision, Done, Refused, invalid_grant
from service.decide.redeem import forged
from service.errors import OAuthError

KEPT = 100
"""Access tokens of one family that may be revoked one by one at a time: every commit of the family carries them."""
TOO_MANY = (
    f"{KEPT} access tokens of this grant are revoked one by one already; revoke its refresh token, which ends all of"
    " them, or try again when some have expired"
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
    """End one access `token`, which ends at `expires_at` by itself; the family lives. `client_id` is the caller's."""

    now: datetime
    client_id: str
    token: Claimed
    expires_at: datetime


def revoke(state: FamilyState | None, command: Revoke) -> Decision:
    """`Done` also for a family that is unknown or dead already."""
    if state is None or state.revoked is not None:
        return Decision(Done())
    return Decision(Done(), (FamilyRevoked(command.reason, command.cause),))


def revoke_refresh_token(state: FamilyState | None, command: RevokeRefreshToken) -> Decision:
    """`Done` also for a family that is unknown or dead already, and for a forged token; `Refused` for another
    client's."""
    if state is None:
        return Decision(Done())
    if state.client_id != command.client_id:
        return Decision(invalid_grant())
    if state.generation is None or command.generation > state.generation:
        return Decision(Done(), forged(state, command.generation, command.client_id, command.cause))
    return revoke(state, Revoke("client_request", command.cause))


def revoke_access_token(state: FamilyState | None, command: RevokeAccessToken) -> Decision:
    """`Done` also for a token that is dead already, or that the log does not bear out; `Refused` for another
    client's, and beyond `KEPT`."""
    token = command.token
    if state is None or not is_borne_out(state, token):
        return Decision(Done())
    if token.client_id != command.client_id:
        return Decision(invalid_grant())
    if state.revoked is not None or token.jti in state.revoked_jtis or command.expires_at <= command.now:
        return Decision(Done())
    if sum(expires_at > command.now for expires_at in state.revoked_jtis.values()) >= KEPT:
        return Decision(Refused(OAuthError("temporarily_unavailable", TOO_MANY)))
    return Decision(Done(), (TokenRevoked(token.jti, command.expires_at),))
