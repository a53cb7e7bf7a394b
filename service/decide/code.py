"""Redeeming an authorization code or a device code: once, by whom it was made for (RFC 6749 §4.1, 7636, 8628)."""

import base64
import hashlib
import hmac
from datetime import datetime, timedelta
from typing import NamedTuple

from events.family import (
    AuthorizationCodeIssued,
    Credential,
    FamilyRevoked,
    FamilyState,
    GrantAuthorized,
    Retry,
    TokenRedeemed,
    TokenReuseDetected,
)
from service.decide.issue import First, first_tokens
from service.decide.outcome import Decision, Done, Granted, Refused, invalid_grant, key_used_otherwise
from service.decide.size import check_size
from service.errors import OAuthError
from service.policy import Rules
from service.scope import narrow_resources, still

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

    `resource` is what the access token is for, of what was granted (RFC 8707 §2.2); None for all of it.
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
    """`client_id` presents an authentic device code (RFC 8628 §3.4). `resource` as in `RedeemCode`."""

    now: datetime
    rules: Rules
    client_id: str
    resource: tuple[str, ...] | None
    retry: Retry | None
    jti: str
    key: int
    cause: str


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
        return _again(state, command, "authorization_code")
    code = state.code
    if code is None or code.expires_at <= command.now or code.redirect_uri != command.redirect_uri:
        return Decision(invalid_grant())
    if not hmac.compare_digest(code.code_challenge, s256(command.code_verifier)):
        return Decision(invalid_grant())
    return _redeemed(state, command, "authorization_code")


def redeem_device_code(state: FamilyState | None, command: RedeemDeviceCode) -> Decision:
    """`Granted` with the first tokens, once somebody has approved; `Refused` as RFC 8628 §3.5 says until then."""
    if state is None or state.client_id != command.client_id or state.device is None or state.revoked is not None:
        return Decision(invalid_grant())
    if state.code_redeemed:
        return _again(state, command, "device_code")
    if state.device.expires_at <= command.now:
        return Decision(Refused(OAuthError("expired_token", "the device code has expired; start again")))
    match state.device.status:
        case "pending":
            return Decision(Refused(OAuthError("authorization_pending", "nobody has approved this device yet")))
        case "denied":
            return Decision(Refused(OAuthError("access_denied", "the person did not approve this device")))
        case "approved":
            return _redeemed(state, command, "device_code")


def s256(verifier: str) -> str:
    """The challenge of a verifier (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _redeemed(state: FamilyState, command: RedeemCode | RedeemDeviceCode, credential: Credential) -> Decision:
    scope = still(state.scope, command.rules.scope)
    if state.scope and not scope:
        return Decision(invalid_grant())
    try:
        target = narrow_resources(command.resource, state.audience, command.rules.audiences)
    except OAuthError as error:
        return Decision(Refused(error))  # and the code is as good as before
    first = First(
        now=command.now,
        rules=command.rules,
        client_id=state.client_id,
        scope=scope,
        audience=state.audience,
        target=target,
        jti=command.jti,
        key=command.key,
        opened_at=state.opened_at,
    )
    granted, issued = first_tokens(first)
    return Decision(granted, (TokenRedeemed(credential, 0, command.retry), *issued))


def _again(state: FamilyState, command: RedeemCode | RedeemDeviceCode, credential: Credential) -> Decision:
    """A lost answer asked for once more, or a copied code."""
    repeated = command.retry is not None and state.retry is not None and command.retry.key == state.retry.key
    if repeated and command.retry != state.retry:
        return Decision(key_used_otherwise())
    if repeated and state.access is not None:
        return Decision(Granted(state.access, state.generation, state.key))
    reuse = TokenReuseDetected(0, state.generation or 0, command.client_id, credential)
    return Decision(invalid_grant(), (reuse, FamilyRevoked("code_reuse", command.cause)))
