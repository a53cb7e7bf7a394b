"""Redeeming an authorization code or a device code: once, by its own client (RFC 6749 §4.1, RFC 7636, RFC 8628)."""

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import NamedTuple

from events import base64url
from events.aggregates.family import FamilyState
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    Credential,
    FamilyRevoked,
    GrantAuthorized,
    Retry,
    TokenRedeemed,
    TokenReuseDetected,
)
from service.decide.decision import Decision, Done, Granted, Refused, invalid_grant, key_used_otherwise
from service.decide.issue import First, access_token, first_tokens
from service.decide.policy import Rules
from service.decide.refresh_token import within_grace
from service.decide.scope import narrow_resources, still
from service.decide.token_size import check_size
from service.errors import OAuthError

CODE_SECONDS = 60


class Authorize(NamedTuple):
    """Open a family with a code instead of tokens. Fields as in `GrantAuthorized` and `AuthorizationCodeIssued`."""

    now: datetime
    grant: GrantAuthorized
    code_challenge: str
    redirect_uri: str | None
    nonce: str | None


class RedeemCode(NamedTuple):
    """`client_id` presents an authentic authorization code, with its verifier (RFC 7636 §4.5).

    `resource` selects the access token's audience from the granted one (RFC 8707 §2.2); None selects all of it.
    """

    now: datetime
    rules: Rules
    client_id: str
    code_verifier: str
    redirect_uri: str | None
    resource: tuple[str, ...] | None
    retry: Retry | None
    jti: str
    key: int
    cause: str


class RedeemDeviceCode(NamedTuple):
    """`client_id` presents an authentic device code (RFC 8628 §3.4). `resource` is as in `RedeemCode`.

    `answered_at` is when the broker stored the redemption, if that is the family's last commit.
    """

    now: datetime
    rules: Rules
    client_id: str
    resource: tuple[str, ...] | None
    retry: Retry | None
    jti: str
    key: int
    answered_at: datetime | None = None


def authorize(state: FamilyState | None, command: Authorize) -> Decision:
    """`Done`, with `GrantAuthorized` and `AuthorizationCodeIssued`. The family must not exist yet."""
    if state is not None:
        return Decision(Refused(OAuthError("server_error", "the new family's id is taken; try again")))
    grant = command.grant
    try:
        check_size(grant.sub, grant.scope, grant.audience, grant.acr, grant.amr)
    except OAuthError as error:
        return Decision(Refused(error))
    expires_at = command.now + timedelta(seconds=CODE_SECONDS)
    code = AuthorizationCodeIssued(expires_at, command.code_challenge, command.redirect_uri, command.nonce)
    return Decision(Done(), (grant, code))


def redeem_code(state: FamilyState | None, command: RedeemCode) -> Decision:
    """`Granted` with the first tokens, once; a second redemption ends the family it opened (RFC 6749 §4.1.2)."""
    if state is None or state.client_id != command.client_id or state.grant != "authorization_code":
        return Decision(invalid_grant())
    if state.revoked is not None:
        return Decision(invalid_grant())
    if state.code_redeemed:
        return _again(state, command)
    code = state.code
    if code is None or code.expires_at <= command.now or code.redirect_uri != command.redirect_uri:
        return Decision(invalid_grant())
    if not hmac.compare_digest(code.code_challenge, s256(command.code_verifier)):
        return Decision(invalid_grant())
    return _redeemed(state, command, "authorization_code")


def redeem_device_code(state: FamilyState | None, command: RedeemDeviceCode) -> Decision:
    """`Granted` with the first tokens once a person has approved; until then `Refused` with RFC 8628 §3.5's error."""
    if state is None or state.client_id != command.client_id or state.device is None or state.revoked is not None:
        return Decision(invalid_grant())
    if state.code_redeemed:
        return _polled_again(state, command)
    if state.device.expires_at <= command.now:
        return Decision(expired())
    match state.device.status:
        case "pending":
            return Decision(Refused(OAuthError("authorization_pending", "nobody has approved this device yet")))
        case "denied":
            return Decision(Refused(OAuthError("access_denied", "the person did not approve this device")))
        case "approved":
            return _redeemed(state, command, "device_code")


def expired() -> Refused:
    """The refusal for a device code that no person answered in time, or that the broker lost (RFC 8628 §3.5)."""
    return Refused(OAuthError("expired_token", "the device code has expired; start again"))


def s256(verifier: str) -> str:
    """The challenge of a verifier (RFC 7636 §4.2)."""
    return base64url.encode(hashlib.sha256(verifier.encode()).digest()).decode()


def _redeemed(state: FamilyState, command: RedeemCode | RedeemDeviceCode, credential: Credential) -> Decision:
    scope = still(state.scope, command.rules.scope)
    if state.scope and not scope:
        return Decision(invalid_grant())
    try:
        target = narrow_resources(command.resource, state.audience, command.rules.audiences)
    except OAuthError as error:
        return Decision(Refused(error))  # the code stays valid
    access = access_token(command.now, command.rules, command.jti, scope, target)
    first = First(access, state.client_id, state.audience, state.opened_at)
    granted, issued = first_tokens(first, command.rules, command.key)
    return Decision(granted, (TokenRedeemed(0, credential, command.retry), *issued))


def _again(state: FamilyState, command: RedeemCode) -> Decision:
    """The code was redeemed already: the client repeats a request whose response was lost, or the code was copied.

    After the first refresh the state holds no code, and its Idempotency-Key is that of the refresh: then every
    presentation of the code is a reuse.
    """
    repeated = None if state.code is None else _repeated(state, command)
    if repeated is not None:
        return repeated
    reuse = TokenReuseDetected(0, state.generation or 0, command.client_id, "authorization_code")
    return Decision(invalid_grant(), (reuse, FamilyRevoked("code_reuse", command.cause)))


def _polled_again(state: FamilyState, command: RedeemDeviceCode) -> Decision:
    """A device polls again when a response was lost (RFC 8628 §3.5): this is not a theft, and does not end the family.

    It gets the same tokens within the grace time, while no refresh token was presented; after that it is refused.
    """
    repeated = _repeated(state, command)
    if repeated is not None:
        return repeated
    never_refreshed = not state.generation and command.rules.refresh_token_rotation == "rotate"
    if never_refreshed and state.access and within_grace(state, command.now, command.answered_at, command.rules):
        return Decision(Granted(state.access, state.generation, state.key))
    return Decision(invalid_grant())


def _repeated(state: FamilyState, command: RedeemCode | RedeemDeviceCode) -> Decision | None:
    """The decision on a request with the `Idempotency-Key` of the redemption; None for any other request."""
    if command.retry is None or state.retry is None or command.retry.key != state.retry.key:
        return None
    if command.retry != state.retry:
        return Decision(key_used_otherwise())
    return Decision(Granted(state.access, state.generation, state.key)) if state.access is not None else None
