"""Opening a family: the first tokens of a grant."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.family import AccessToken, FamilyState, GrantAuthorized, TokenIssued
from service.decide.outcome import Decision, Granted, Refused
from service.errors import OAuthError
from service.policy import Rules
from service.scope import OFFLINE_ACCESS


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


def issue(state: FamilyState | None, command: Issue) -> Decision:
    """`Granted`, with `GrantAuthorized` and a `TokenIssued` for each token. The family must not exist yet."""
    if state is not None:
        return Decision(Refused(OAuthError("server_error", "the new family's id is taken; try again")))
    rules, now = command.rules, command.now
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
    expires_at = now + timedelta(seconds=rules.access_token_ttl)
    access = AccessToken(command.jti, command.scope, command.audience, now, expires_at)
    access_issued = TokenIssued("access", command.scope, command.audience, expires_at, jti=command.jti)
    if not has_refresh_token(command):
        return Decision(Granted(access, None, 0), (authorized, access_issued))
    family_expires_at = now + timedelta(seconds=rules.refresh_token_ttl)
    refresh_issued = TokenIssued(
        "refresh",
        command.scope,
        command.audience,
        token_expiry(now, family_expires_at, rules),
        generation=0,
        key=command.key,
        family_expires_at=family_expires_at,
    )
    return Decision(Granted(access, 0, command.key), (authorized, refresh_issued, access_issued))


def has_refresh_token(command: Issue) -> bool:
    """Whether the grant comes with a refresh token (CONTRACT §4; OpenID Connect Core §11 for `offline_access`)."""
    rules = command.rules
    return (
        command.refreshable
        and rules.refresh_token_ttl > 0
        and "refresh_token" in rules.grant_types
        and (not rules.require_offline_access or OFFLINE_ACCESS in command.scope.split(" "))
    )


def token_expiry(now: datetime, family_expires_at: datetime, rules: Rules) -> datetime:
    """When a refresh token given now ends if it is never redeemed."""
    if rules.refresh_token_idle_ttl == 0:
        return family_expires_at
    return min(family_expires_at, now + timedelta(seconds=rules.refresh_token_idle_ttl))
