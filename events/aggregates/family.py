"""The token family: its events, its state, and what each event does to it.

A family begins with a grant and lives through generations of refresh tokens. The state holds what decisions need, and
nothing that is secret: tokens are computed from it together with keys that are never in the log.
"""

from datetime import datetime
from typing import Literal, TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from events.aggregates.commit import Codec, Commit, Time, type_of

Credential: TypeAlias = Literal["refresh_token", "authorization_code", "device_code"]

RECORDED_AFTER_THE_END = 3
"""How many later presentations of a dead family's old tokens are recorded: enough to see that somebody still tries."""
REVOKED_ONE_BY_ONE = 100
"""Access tokens of one family that may be revoked one by one at a time: every commit of the family carries them."""

CLIENT_GRANT = "client_credentials"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

RevocationReason: TypeAlias = Literal[
    "reuse_detected",
    "code_reuse",
    "client_request",
    "operator",
    "subject_blocked",
    "subject_revoked",
    "consent_withdrawn",
    "client_disabled",
    "policy_changed",
    "forgery",
]


class _Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Events are written without the fields that have their default, but for what a grant says."""


class GrantAuthorized(_Event, frozen=True, tag="GrantAuthorized", omit_defaults=False):
    """A family began: `client_id` may act for `sub` within `scope` and `audience` (RFC 6749 §1.3).

    Written with every field: that nothing is known of how the person authenticated is a fact, too.
    `grant` is the grant type it began with, or `issue`. `seed` keys this family's tokens together with the service's
    own key (neither is of use alone). `auth_time` is a NumericDate.
    """

    client_id: str
    sub: str
    scope: str
    audience: tuple[str, ...]
    grant: str
    seed: str
    acr: str | None = None
    amr: tuple[str, ...] = ()
    auth_time: int | None = None


class AuthorizationCodeIssued(_Event, frozen=True, tag="AuthorizationCodeIssued"):
    """A code was handed out for the grant (RFC 6749 §4.1.2), bound to a redirect URI and a challenge (RFC 7636)."""

    expires_at: Time
    code_challenge: str
    redirect_uri: str | None = None
    nonce: str | None = None


class DeviceAuthorizationStarted(_Event, frozen=True, tag="DeviceAuthorizationStarted"):
    """A device asks (RFC 8628 §3.1): the family waits for somebody to approve it. Fields as in `GrantAuthorized`."""

    client_id: str
    scope: str
    audience: tuple[str, ...]
    seed: str
    expires_at: Time


class DeviceAuthorizationDenied(_Event, frozen=True, tag="DeviceAuthorizationDenied"):
    """The person said no (RFC 8628 §3.3)."""

    sub: str


class TokenIssued(_Event, frozen=True, tag="TokenIssued"):
    """A token came into being: an access or ID token by its `jti`, a refresh token by its `generation`.

    `client_id` is the holder of an access token that was exchanged (RFC 8693) or given besides the latest, `act` who
    acted before it, `exchanged_from` the `jti` of each token that it came of; both the latest first.

    Of a refresh token, `key` is the id of the MAC key it is computed under, `expires_at` its own end if it is never
    redeemed, and `family_expires_at` the end that no rotation moves.
    """

    kind: Literal["access", "refresh", "id"]
    scope: str
    audience: tuple[str, ...]
    expires_at: Time
    jti: str | None = None
    generation: int | None = None
    key: int = 0
    family_expires_at: Time | None = None
    client_id: str | None = None
    act: tuple[str, ...] = ()
    exchanged_from: tuple[str, ...] = ()


class TokenRedeemed(_Event, frozen=True, tag="TokenRedeemed"):
    """A credential was accepted (RFC 6749 §4.1.3, §6).

    `retry` tells a repetition of this very request (CONTRACT §2). `expires_at` is the new end of a refresh token that
    stays valid after its use (rotation policy `reuse`), `family_expires_at` as in `TokenRotated`.
    """

    credential: Credential
    generation: int
    retry: "Retry | None" = None
    expires_at: Time | None = None
    family_expires_at: Time | None = None


class TokenRotated(_Event, frozen=True, tag="TokenRotated"):
    """The refresh token passed to its next generation (RFC 9700 §4.14.2). Fields as in `TokenIssued`.

    `family_expires_at` is told only where a tightened policy brought it forward.
    """

    from_generation: int
    to_generation: int
    expires_at: Time
    key: int
    family_expires_at: Time | None = None


class TokenReuseDetected(_Event, frozen=True, tag="TokenReuseDetected"):
    """A generation that had already been rotated was presented: somebody holds a copy (RFC 9700 §4.14.2).

    Or a code that had already been redeemed (RFC 6749 §4.1.2): `credential` says which.
    """

    generation: int
    current_generation: int
    client_id: str
    credential: Credential = "refresh_token"


class TokenRevoked(_Event, frozen=True, tag="TokenRevoked"):
    """One access token was revoked (RFC 7009 §2.1); the family lives.

    `kept_until` is when nobody's clock can call the token alive any more, so that it may be forgotten (ADR 0029);
    where it is missing, that is `expires_at`.
    """

    jti: str
    expires_at: Time
    reason: RevocationReason = "client_request"
    kept_until: Time | None = None


class FamilyRevoked(_Event, frozen=True, tag="FamilyRevoked"):
    """The end of the family: no token of it is accepted or active from here on."""

    reason: RevocationReason
    cause: str


class ForgeryDetected(_Event, frozen=True, tag="ForgeryDetected"):
    """A token authenticated whose generation was never issued: a key has leaked."""

    generation: int
    current_generation: int
    client_id: str


FamilyEvent: TypeAlias = (
    GrantAuthorized
    | AuthorizationCodeIssued
    | DeviceAuthorizationStarted
    | DeviceAuthorizationDenied
    | TokenIssued
    | TokenRedeemed
    | TokenRotated
    | TokenReuseDetected
    | TokenRevoked
    | FamilyRevoked
    | ForgeryDetected
)


_REVOKING = frozenset({TokenReuseDetected, TokenRevoked, FamilyRevoked, ForgeryDetected})


class Retry(msgspec.Struct, frozen=True):
    """Digests of an `Idempotency-Key` and of the request it came with."""

    key: str
    body: str


class AccessToken(msgspec.Struct, frozen=True):
    """The latest access token, so that a retry gives back the same one."""

    jti: str
    scope: str
    audience: tuple[str, ...]
    issued_at: Time
    expires_at: Time


class Code(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an authorization code is bound to, kept until the first refresh."""

    expires_at: Time
    code_challenge: str
    redirect_uri: str | None = None
    nonce: str | None = None


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a device authorization stands."""

    expires_at: Time
    status: Literal["pending", "approved", "denied"] = "pending"


class Revocation(msgspec.Struct, frozen=True):
    """When and why the family ended."""

    at: Time
    reason: RevocationReason


class FamilyState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A family after some commits.

    `generation` is the newest refresh token's, None where none was issued; `key` the MAC key it is computed under;
    `expires_at` its end if it is never redeemed, `family_expires_at` the end that no rotation moves. `redeemed_at` is
    None until the first redemption. `revoked_jtis` tells of single revoked access tokens until when they are kept here;
    `afterwards`
    counts the presentations recorded after the end. `code` and `device` are how the family began, where it did so;
    `code_redeemed` tells that the code or device code was used. A device's family has no `sub` until it is approved.
    """

    client_id: str
    sub: str
    scope: str
    audience: tuple[str, ...]
    grant: str
    seed: str
    opened_at: Time
    acr: str | None = None
    amr: tuple[str, ...] = ()
    auth_time: int | None = None
    generation: int | None = None
    key: int = 0
    expires_at: Time | None = None
    family_expires_at: Time | None = None
    redeemed_at: Time | None = None
    retry: Retry | None = None
    access: AccessToken | None = None
    revoked: Revocation | None = None
    revoked_jtis: dict[str, Time] = {}
    afterwards: int = 0
    code: Code | None = None
    device: Device | None = None
    code_redeemed: bool = False


FamilyCommit: TypeAlias = Commit[FamilyEvent, FamilyState]
codec: Codec[FamilyEvent, FamilyState] = Codec(FamilyCommit)


def evolve(state: FamilyState | None, event: FamilyEvent, at: datetime) -> FamilyState:
    """The state after `event`, committed at `at`. Raises `ValueError` for an event that cannot follow `state`."""
    if state is None:
        if isinstance(event, GrantAuthorized | DeviceAuthorizationStarted):
            return _begin(None, event, at)
        raise ValueError(f"a family begins with GrantAuthorized, not with {type_of(event)}")
    match event:  # what a refresh is made of comes first
        case TokenRedeemed():
            return _redeemed(state, event, at)
        case TokenRotated():
            return _rotated(state, event)
        case TokenIssued():
            return _issued(state, event, at)
        case GrantAuthorized() | DeviceAuthorizationStarted():
            return _begin(state, event, at)
        case AuthorizationCodeIssued():
            code = Code(event.expires_at, event.code_challenge, event.redirect_uri, event.nonce)
            return replace(state, code=code)
        case DeviceAuthorizationDenied():
            return replace(state, sub=event.sub, device=_decided(state, "denied"))
        case TokenReuseDetected() | ForgeryDetected():
            return replace(state, afterwards=state.afterwards + 1) if state.revoked else state
        case TokenRevoked():
            return _access_token_revoked(state, event, at)
        case FamilyRevoked():
            if state.revoked:
                raise ValueError("a family ends once")
            return replace(state, revoked=Revocation(at, event.reason))
        case _:
            assert_never(event)


def fold(state: FamilyState | None, events: tuple[FamilyEvent, ...], at: datetime) -> FamilyState:
    """The state after the events of one commit. Raises `ValueError` as `evolve` does, and for a commit without any."""
    for event in events:
        state = evolve(state, event, at)
    if state is None:
        raise ValueError("a commit holds at least one event")
    return state


def is_of_a_person(state: FamilyState) -> bool:
    """Whether its `sub` is a person's. A client's own tokens have its `client_id` there (RFC 6749 §4.4)."""
    return state.grant != CLIENT_GRANT


def revokes(events: tuple[FamilyEvent, ...]) -> bool:
    """Whether a commit of these events belongs on the `…revoked` subject.

    The bounded records of presentations after the end go there too: they are part of the incident.
    """
    return not _REVOKING.isdisjoint(map(type, events))


def _begin(state: FamilyState | None, event: GrantAuthorized | DeviceAuthorizationStarted, at: datetime) -> FamilyState:
    if isinstance(event, DeviceAuthorizationStarted):
        if state is not None:
            raise ValueError("a family begins once")
        return FamilyState(
            client_id=event.client_id,
            sub="",
            scope=event.scope,
            audience=event.audience,
            grant=DEVICE_GRANT,
            seed=event.seed,
            opened_at=at,
            device=Device(event.expires_at),
        )
    device = _decided(state, "approved") if state is not None else None
    return FamilyState(
        client_id=event.client_id,
        sub=event.sub,
        scope=event.scope,
        audience=event.audience,
        grant=event.grant,
        seed=event.seed,
        opened_at=at,
        acr=event.acr,
        amr=event.amr,
        auth_time=event.auth_time,
        device=device,
    )


def _decided(state: FamilyState, status: Literal["approved", "denied"]) -> Device:
    if state.device is None or state.device.status != "pending":
        raise ValueError("a family begins once")
    return replace(state.device, status=status)


def _redeemed(state: FamilyState, event: TokenRedeemed, at: datetime) -> FamilyState:
    if event.credential == "refresh_token":
        return replace(
            state,
            redeemed_at=at,
            retry=event.retry,
            expires_at=event.expires_at or state.expires_at,
            family_expires_at=event.family_expires_at or state.family_expires_at,
            code=None,
        )
    return replace(state, redeemed_at=at, retry=event.retry, code_redeemed=True)


def _issued(state: FamilyState, event: TokenIssued, at: datetime) -> FamilyState:
    match event.kind:
        case "access":
            if event.jti is None:
                raise ValueError("an access token has a jti")
            if event.client_id is not None:
                return state  # exchanged, or given besides: no successor of anything
            access = AccessToken(event.jti, event.scope, event.audience, at, event.expires_at)
            return replace(state, access=access)
        case "refresh":
            if state.generation is not None or event.generation != 0:
                raise ValueError(f"generation {event.generation} issued after {state.generation}")
            return replace(
                state,
                generation=0,
                key=event.key,
                expires_at=event.expires_at,
                family_expires_at=event.family_expires_at,
            )
        case "id":
            return state


def _rotated(state: FamilyState, event: TokenRotated) -> FamilyState:
    if event.from_generation != state.generation or event.to_generation != event.from_generation + 1:
        raise ValueError(f"rotated {event.from_generation} → {event.to_generation} at generation {state.generation}")
    return replace(
        state,
        generation=event.to_generation,
        key=event.key,
        expires_at=event.expires_at,
        family_expires_at=event.family_expires_at or state.family_expires_at,
    )


def _access_token_revoked(state: FamilyState, event: TokenRevoked, at: datetime) -> FamilyState:
    # a token that is dead on every clock needs no memory: the list stays as short as the access tokens' lifetime
    kept = {jti: until for jti, until in state.revoked_jtis.items() if until > at}
    return replace(state, revoked_jtis=kept | {event.jti: event.kept_until or event.expires_at})
