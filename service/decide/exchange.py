"""Token exchange: a service swaps a person's access token for a narrower one of its own (RFC 8693)."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.family import AccessToken, FamilyState, TokenIssued
from service.decide.claimed import Claimed, is_borne_out
from service.decide.outcome import Decision, Granted, Refused
from service.errors import OAuthError
from service.policy import Rules
from service.scope import narrow


class Exchange(NamedTuple):
    """`client_id` exchanges the access token `subject`, asking for `scope` if not None; `act` is who has acted with
    the new one, the latest first.

    `subject_expires_at` bounds the new token: it never outlives the one it was made of.
    """

    now: datetime
    rules: Rules
    client_id: str
    subject: Claimed
    subject_expires_at: datetime
    scope: str | None
    audience: tuple[str, ...]
    act: tuple[str, ...]
    jti: str


def exchange(state: FamilyState | None, command: Exchange) -> Decision:
    """`Granted` with an access token in the subject token's family.

    A subject token that is dead, or that the log does not bear out, is `invalid_request`; more than its scope is
    `invalid_scope`.
    """
    subject = command.subject
    if state is None or not is_borne_out(state, subject) or not _is_alive(state, command):
        return Decision(Refused(invalid_subject_token()))
    try:
        scope = narrow(command.scope, subject.scope)
    except OAuthError as error:
        return Decision(Refused(error))
    expires_at = min(command.now + timedelta(seconds=command.rules.access_token_ttl), command.subject_expires_at)
    access = AccessToken(command.jti, scope, command.audience, command.now, expires_at)
    issued = TokenIssued(
        "access",
        scope,
        command.audience,
        expires_at,
        jti=command.jti,
        client_id=command.client_id,
        act=command.act,
    )
    return Decision(Granted(access, None, 0), (issued,))


def invalid_subject_token() -> OAuthError:
    """What a client hears whose subject token is not good: it tells nothing about why."""
    return OAuthError("invalid_request", "the subject_token is not valid (RFC 8693 §2.2.2)")


def _is_alive(state: FamilyState, command: Exchange) -> bool:
    if state.revoked is not None or command.subject.jti in state.revoked_jtis:
        return False
    return command.subject_expires_at > command.now
