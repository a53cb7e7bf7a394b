"""Token exchange: a service swaps a person's access token for a narrower one of its own (RFC 8693)."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.family import AccessToken, FamilyState, TokenIssued
from service.decide.outcome import Decision, Granted, Refused
from service.errors import OAuthError
from service.policy import Rules


class Exchange(NamedTuple):
    """`client_id` exchanges the access token `subject_jti`; `act` is who has acted with it, the latest first.

    `subject_expires_at` bounds the new token: it never outlives the one it was made of.
    """

    now: datetime
    rules: Rules
    client_id: str
    subject_jti: str
    subject_expires_at: datetime
    scope: str
    audience: tuple[str, ...]
    act: tuple[str, ...]
    jti: str


def exchange(state: FamilyState | None, command: Exchange) -> Decision:
    """`Granted` with an access token in the subject token's family; a dead subject token is `invalid_request`."""
    if state is None or not is_alive(state, command.subject_jti, command.subject_expires_at, command.now):
        return Decision(Refused(OAuthError("invalid_request", "the subject_token is not valid (RFC 8693 §2.2.2)")))
    expires_at = min(command.now + timedelta(seconds=command.rules.access_token_ttl), command.subject_expires_at)
    access = AccessToken(command.jti, command.scope, command.audience, command.now, expires_at)
    issued = TokenIssued(
        "access",
        command.scope,
        command.audience,
        expires_at,
        jti=command.jti,
        client_id=command.client_id,
        act=command.act,
    )
    return Decision(Granted(access, None, 0), (issued,))


def is_alive(state: FamilyState, jti: str, expires_at: datetime, now: datetime) -> bool:
    """Whether an access token of the family is good now."""
    return state.revoked is None and jti not in state.revoked_jtis and expires_at > now
