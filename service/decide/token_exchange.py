"""Token exchange: a service swaps a person's access token for a narrower one of its own (RFC 8693)."""

from datetime import datetime
from typing import NamedTuple

from events.aggregates.family import AccessToken, FamilyState
from events.aggregates.family_events import TokenIssued
from service.decide.access_token_claims import PresentedAccessToken, is_revoked, matches
from service.decide.access_token_lifetime import access_expiry
from service.decide.decision import Decision, Granted, Refused
from service.decide.policy import Rules
from service.decide.scope import narrow, still
from service.decide.token_size import check_size
from service.errors import OAuthError


class Exchange(NamedTuple):
    """`client_id` exchanges the access token `subject_token` for a new one; `scope` is None if not requested.

    `act` are the clients that have acted with the new token, the latest first. `known_as` are the names that mean the
    client in an audience, `subject_audience` is the subject token's audience, and `owner_scope` the scope for which the
    family's client is registered today. The new token never outlives the subject token (`subject_expires_at`).
    """

    now: datetime
    rules: Rules
    client_id: str
    known_as: tuple[str, ...]
    subject_token: PresentedAccessToken
    subject_audience: tuple[str, ...]
    subject_expires_at: datetime
    owner_scope: str
    scope: str | None
    audience: tuple[str, ...]
    act: tuple[str, ...]
    jti: str


def exchange(state: FamilyState | None, command: Exchange) -> Decision:
    """`Granted` with an access token in the subject token's family (RFC 8693 §2.2).

    Refused with `invalid_request` if the subject token is not valid, is not the family's, or may not be exchanged by
    this client; with `invalid_scope` if the scope exceeds the subject token's or the client's registered one.
    """
    subject = command.subject_token
    if state is None or not matches(state, subject) or not _is_alive(state, command) or not _may_take(command):
        return Decision(Refused(invalid_subject_token()))
    try:
        scope = _scope(command)
        check_size(state.sub, scope, command.audience, state.acr, state.amr)
    except OAuthError as error:
        return Decision(Refused(error))
    expires_at = min(access_expiry(command.now, command.rules.access_token_ttl), command.subject_expires_at)
    access = AccessToken(command.jti, scope, command.audience, command.now, expires_at)
    issued = TokenIssued(
        "access",
        scope,
        command.audience,
        expires_at,
        jti=command.jti,
        client_id=command.client_id,
        act=command.act,
        exchanged_from=(subject.claims.jti, *subject.claims.exchanged_from),
    )
    return Decision(Granted(access, None, 0), (issued,))


def _may_take(command: Exchange) -> bool:
    """Whether the client may exchange the token: it is its own, has it as audience, or is of a client it may act for.

    Without this check, a token that was presented to one service could be used at every other (RFC 8693 §2.1, §5).
    """
    holder = command.subject_token.claims.client_id
    if holder == command.client_id or holder in command.rules.may_exchange:
        return True
    return not set(command.known_as).isdisjoint(command.subject_audience)


def _scope(command: Exchange) -> str:
    """The part of the subject token's scope for which both clients, the caller and the family's, are registered."""
    presented = command.subject_token.claims.scope
    allowed = still(still(presented, command.owner_scope), command.rules.scope)
    if presented and not allowed:
        raise OAuthError("invalid_scope", "nothing of the subject token's scope is left for this client")
    return narrow(command.scope, allowed, "the subject token has, and this client is registered for")


def invalid_subject_token() -> OAuthError:
    """The refusal of an invalid subject token; it does not tell the reason."""
    return OAuthError("invalid_request", "the subject_token is not valid (RFC 8693 section 2.2.2)")


def _is_alive(state: FamilyState, command: Exchange) -> bool:
    return not is_revoked(state, command.subject_token) and command.subject_expires_at > command.now
