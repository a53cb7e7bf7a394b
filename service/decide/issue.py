"""Opening a family, and the first tokens of a grant."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.aggregates.family import AccessToken, FamilyEvent, FamilyState, GrantAuthorized, TokenIssued
from service.decide.access_token_lifetime import access_expiry
from service.decide.decision import Decision, Granted, Refused
from service.decide.policy import Rules
from service.decide.scope import OFFLINE_ACCESS, OPENID
from service.decide.token_size import check_size
from service.errors import OAuthError


class Issue(NamedTuple):
    """Open a family for `sub` and give its first tokens. `scope` and `audience` are what is granted.

    `jti`, `seed` and `key` (the current MAC key) are fresh; `auth_time` is a NumericDate. `refreshable` is false for
    grants that never have a refresh token (RFC 6749 §4.4.3).
    """

    now: datetime
    rules: Rules
    client_id: str
    sub: str
    scope: str
    audience: tuple[str, ...]
    grant: str
    jti: str
    seed: str
    key: int
    refreshable: bool = True
    acr: str | None = None
    amr: tuple[str, ...] = ()
    auth_time: int | None = None


class First(NamedTuple):
    """What the first tokens of a family follow from; `target` is the access token's part of the `audience`."""

    now: datetime
    rules: Rules
    client_id: str
    scope: str
    audience: tuple[str, ...]
    target: tuple[str, ...]
    jti: str
    key: int
    opened_at: datetime
    for_a_person: bool = True


def issue(state: FamilyState | None, command: Issue) -> Decision:
    """`Granted`, with `GrantAuthorized` and a `TokenIssued` for each token. The family must not exist yet."""
    if state is not None:
        return Decision(Refused(OAuthError("server_error", "the new family's id is taken; try again")))
    try:
        check_size(command.sub, command.scope, command.audience, command.acr, command.amr)
    except OAuthError as error:
        return Decision(Refused(error))
    authorized = GrantAuthorized(
        client_id=command.client_id,
        sub=command.sub,
        scope=command.scope,
        audience=command.audience,
        grant=command.grant,
        seed=command.seed,
        acr=command.acr,
        amr=command.amr,
        auth_time=command.auth_time,
    )
    granted, issued = first_tokens(
        First(
            now=command.now,
            rules=command.rules,
            client_id=command.client_id,
            scope=command.scope,
            audience=command.audience,
            target=command.audience,
            jti=command.jti,
            key=command.key,
            opened_at=command.now,
            for_a_person=command.refreshable,
        )
    )
    return Decision(granted, (authorized, *issued))


def first_tokens(first: First) -> tuple[Granted, tuple[FamilyEvent, ...]]:
    """An access token, a refresh token where policy has one, an ID token where a person granted `openid`."""
    rules, now = first.rules, first.now
    events: list[FamilyEvent] = []
    generation: int | None = None
    if first.for_a_person and has_refresh_token(rules, first.scope):
        generation, family_expires_at = 0, first.opened_at + timedelta(seconds=rules.refresh_token_ttl)
        expires_at = token_expiry(now, family_expires_at, rules)
        events.append(
            TokenIssued(
                "refresh",
                first.scope,
                first.audience,
                expires_at,
                generation=0,
                key=first.key,
                family_expires_at=family_expires_at,
            )
        )
    access, issued = access_and_id_token(
        now, rules, first.client_id, first.scope, first.target, first.jti, first.for_a_person, first.scope
    )
    return Granted(access, generation, first.key), (*events, *issued)


def access_and_id_token(
    now: datetime,
    rules: Rules,
    client_id: str,
    scope: str,
    audience: tuple[str, ...],
    jti: str,
    for_a_person: bool,
    granted: str,
) -> tuple[AccessToken, tuple[FamilyEvent, ...]]:
    """An access token of `scope`, and an ID token where the grant holds `openid` (OpenID Connect Core §12.2)."""
    expires_at = access_expiry(now, rules.access_token_ttl)
    access = AccessToken(jti, scope, audience, now, expires_at)
    issued = TokenIssued("access", scope, audience, expires_at, jti=jti)
    if for_a_person and OPENID in granted.split():
        return access, (issued, TokenIssued("id", OPENID, (client_id,), expires_at, jti=jti))
    return access, (issued,)


def has_refresh_token(rules: Rules, scope: str) -> bool:
    """Whether a grant comes with a refresh token (CONTRACT §4)."""
    return rules.refresh_token_ttl > 0 and may_refresh(rules, scope)


def may_refresh(rules: Rules, scope: str) -> bool:
    """Whether there may be a refresh token for such a grant (OpenID Connect Core §11 for `offline_access`)."""
    offline = not rules.require_offline_access or OFFLINE_ACCESS in scope.split()
    return "refresh_token" in rules.grant_types and offline


def token_expiry(now: datetime, family_expires_at: datetime, rules: Rules) -> datetime:
    """When a refresh token given now ends if it is never redeemed."""
    if rules.refresh_token_idle_ttl == 0:
        return family_expires_at
    return min(family_expires_at, now + timedelta(seconds=rules.refresh_token_idle_ttl))
