"""Opening a family, and the first tokens of a grant."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.aggregates.family import CLIENT_GRANT, AccessToken, FamilyState
from events.aggregates.family_events import FamilyEvent, GrantAuthorized, TokenIssued
from service.decide.access_token_lifetime import access_expiry
from service.decide.decision import Decision, Granted, Refused
from service.decide.policy import Rules
from service.decide.scope import OFFLINE_ACCESS, OPENID
from service.decide.token_size import check_size
from service.errors import OAuthError


class Issue(NamedTuple):
    """Open a family with `grant` and issue its first tokens. `jti` and `key` (the current MAC key) are fresh."""

    now: datetime
    rules: Rules
    grant: GrantAuthorized
    jti: str
    key: int


class First(NamedTuple):
    """What the first tokens of a family are made from.

    `access` is the access token; the refresh token has the same scope. `audience` is the grant's, and the access
    token's audience a part of it. A grant that is not `for_a_person` gets no refresh or ID token (RFC 6749 §4.4.3).
    """

    access: AccessToken
    client_id: str
    audience: tuple[str, ...]
    opened_at: datetime
    for_a_person: bool = True


def issue(state: FamilyState | None, command: Issue) -> Decision:
    """`Granted`, with `GrantAuthorized` and a `TokenIssued` for each token. The family must not exist yet."""
    if state is not None:
        return Decision(Refused(OAuthError("server_error", "the new family's id is taken; try again")))
    grant = command.grant
    try:
        check_size(grant.sub, grant.scope, grant.audience, grant.acr, grant.amr)
    except OAuthError as error:
        return Decision(Refused(error))
    access = access_token(command.now, command.rules, command.jti, grant.scope, grant.audience)
    first = First(access, grant.client_id, grant.audience, command.now, grant.grant != CLIENT_GRANT)
    granted, issued = first_tokens(first, command.rules, command.key)
    return Decision(granted, (grant, *issued))


def first_tokens(first: First, rules: Rules, key: int) -> tuple[Granted, tuple[FamilyEvent, ...]]:
    """The tokens and their events: a refresh token if the rules allow one, an access token, and perhaps an ID token."""
    access = first.access
    events: list[FamilyEvent] = []
    generation: int | None = None
    if first.for_a_person and has_refresh_token(rules, access.scope):
        generation, family_expires_at = 0, first.opened_at + timedelta(seconds=rules.refresh_token_ttl)
        events.append(
            TokenIssued(
                "refresh",
                access.scope,
                first.audience,
                token_expiry(access.issued_at, family_expires_at, rules),
                generation=0,
                key=key,
                family_expires_at=family_expires_at,
            )
        )
    of_person = access.scope if first.for_a_person else ""
    return Granted(access, generation, key), (*events, *access_and_id_token(access, first.client_id, of_person))


def access_token(now: datetime, rules: Rules, jti: str, scope: str, audience: tuple[str, ...]) -> AccessToken:
    """An access token that is issued now, with the lifetime that the rules set."""
    return AccessToken(jti, scope, audience, now, access_expiry(now, rules.access_token_ttl))


def access_and_id_token(access: AccessToken, client_id: str, granted: str) -> tuple[FamilyEvent, ...]:
    """`TokenIssued` for the access token, and for an ID token if a person granted `openid` (OIDC Core §12.2).

    `granted` is the scope that a person granted; it is empty if there is no person.
    """
    issued = TokenIssued("access", access.scope, access.audience, access.expires_at, jti=access.jti)
    if OPENID in granted.split():
        return issued, TokenIssued("id", OPENID, (client_id,), access.expires_at, jti=access.jti)
    return (issued,)


def has_refresh_token(rules: Rules, scope: str) -> bool:
    """Whether a grant comes with a refresh token (CONTRACT §4)."""
    return rules.refresh_token_ttl > 0 and may_refresh(rules, scope)


def may_refresh(rules: Rules, scope: str) -> bool:
    """Whether a grant with this scope may have a refresh token (OpenID Connect Core §11 for `offline_access`)."""
    offline = not rules.require_offline_access or OFFLINE_ACCESS in scope.split()
    return "refresh_token" in rules.grant_types and offline


def token_expiry(now: datetime, family_expires_at: datetime, rules: Rules) -> datetime:
    """When a refresh token that is issued now expires if it is never redeemed."""
    if rules.refresh_token_idle_ttl == 0:
        return family_expires_at
    return min(family_expires_at, now + timedelta(seconds=rules.refresh_token_idle_ttl))
