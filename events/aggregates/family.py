"""The token family: its state, and how each event changes it (`events.aggregates.family_events`).

A family begins with a grant and goes through generations of refresh tokens. The state contains what decisions need, and
no secret: tokens are computed from it and from keys that are never in the log.
"""

from datetime import datetime, timedelta
from typing import Literal, TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from events.aggregates.commit import Commit, Time, later, type_of
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    LateDuplicateRefused,
    Retry,
    RevocationReason,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)
from events.aggregates.settings import GrantType

MAX_RECORDED_AFTER_END = 3
"""How many presentations of a revoked family's tokens are recorded: enough to see that somebody still tries."""
MAX_LATE_DUPLICATES = 10
"""How many late duplicates of a family are recorded: enough to see that its client sends them."""
MAX_REVOKED_TOKENS = 100
"""How many of a family's valid access tokens may be revoked singly: every commit of the family lists them."""

CLIENT_GRANT: GrantType = "client_credentials"
DEVICE_GRANT: GrantType = "urn:ietf:params:oauth:grant-type:device_code"

# A replica holds many states (service.families.cache). They contain no cycles, so the garbage collector need not walk
# through them (gc=False).


class AccessToken(msgspec.Struct, frozen=True, gc=False):
    """The latest access token, so that a retry returns the same one."""

    jti: str
    scope: str
    audience: tuple[str, ...]
    issued_at: Time
    expires_at: Time


class Code(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The data that an authorization code is bound to, kept until the first refresh."""

    expires_at: Time
    code_challenge: str
    redirect_uri: str | None = None
    nonce: str | None = None


class Device(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The status of a device authorization."""

    expires_at: Time
    status: Literal["pending", "approved", "denied"] = "pending"


class Revocation(msgspec.Struct, frozen=True, gc=False):
    """When and why the family ended."""

    at: Time
    reason: RevocationReason


class FamilyState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The state of a family.

    `generation` is that of the newest refresh token, None if none was issued; `key` its MAC key, `expires_at` its end
    if it is not redeemed, and `family_ttl` how long the family lasts from `opened_at` on, which rotations do not move.
    `redeemed_at` is None until the first redemption. `revoked_jtis` maps the singly revoked access tokens to the time
    until which they are kept; `afterwards` counts the presentations recorded after the end, `late_duplicates` those
    recorded before it. `code` and `device` are present if the family began with one, and `code_redeemed` says whether
    that was redeemed. The family of a device has an empty `sub` until it is approved.
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
    family_ttl: timedelta | None = None
    redeemed_at: Time | None = None
    retry: Retry | None = None
    access: AccessToken | None = None
    revoked: Revocation | None = None
    revoked_jtis: dict[str, Time] = {}
    afterwards: int = 0
    code: Code | None = None
    device: Device | None = None
    code_redeemed: bool = False
    late_duplicates: int = 0

    @property
    def family_expires_at(self) -> datetime | None:
        """The end of the family."""
        return None if self.family_ttl is None else later(self.opened_at, self.family_ttl)


FamilyCommit: TypeAlias = Commit[FamilyEvent, FamilyState]


def evolve(state: FamilyState | None, event: FamilyEvent, at: datetime) -> FamilyState:
    """The state after `event`, committed at `at`. Raises `ValueError` for an event that cannot follow `state`."""
    if state is None:
        if isinstance(event, GrantAuthorized | DeviceAuthorizationStarted):
            return _begin(None, event, at)
        raise ValueError(f"a family begins with GrantAuthorized, not with {type_of(event)}")
    match event:  # the events of a refresh come first
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
        case LateDuplicateRefused():
            return replace(state, late_duplicates=state.late_duplicates + 1)
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
    """Whether the `sub` is a person. In a client's own tokens it is the `client_id` (RFC 6749 §4.4)."""
    return state.grant != CLIENT_GRANT


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
            family_ttl=_family_ttl(state, event.family_expires_at),
            code=None,
        )
    return replace(state, redeemed_at=at, retry=event.retry, code_redeemed=True)


def _issued(state: FamilyState, event: TokenIssued, at: datetime) -> FamilyState:
    match event.kind:
        case "access":
            if event.jti is None:
                raise ValueError("an access token has a jti")
            if event.client_id is not None:
                return state  # exchanged, or issued besides: it does not replace the latest one
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
                family_ttl=_family_ttl(state, event.family_expires_at),
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
        family_ttl=_family_ttl(state, event.family_expires_at),
    )


def _family_ttl(state: FamilyState, ends: datetime | None) -> timedelta | None:
    """How long the family lasts if it ends then; None: no event changes it."""
    return state.family_ttl if ends is None else ends - state.opened_at


def _access_token_revoked(state: FamilyState, event: TokenRevoked, at: datetime) -> FamilyState:
    # a token that has expired by every clock is removed, so the list stays short
    kept = {jti: until for jti, until in state.revoked_jtis.items() if until > at}
    return replace(state, revoked_jtis=kept | {event.jti: event.kept_until or event.expires_at})
