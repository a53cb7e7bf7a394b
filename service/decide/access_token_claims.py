"""An access token's claims compared with its family in the log: a signature alone proves nothing once a key leaked."""

from collections.abc import Callable
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from events.aggregates import aggregate_names
from events.aggregates.family import FamilyState

NumericDate: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=253402300799)]
"""Seconds since 1970 (RFC 7519 §2), up to the end of the year 9999: `datetime` has no later time."""

FamilyId: TypeAlias = Annotated[str, msgspec.Meta(pattern=rf"\A{aggregate_names.FAMILY_ID.pattern}\Z")]


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The current actor, and in `act` those before it (RFC 8693 §4.1)."""

    sub: str
    act: "Actor | None" = None


class AccessTokenClaims(msgspec.Struct, frozen=True):
    """The claims of an access token (RFC 9068 §2.2)."""

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    client_id: str
    iat: NumericDate
    exp: NumericDate
    jti: str
    sid: FamilyId
    scope: str
    acr: str | None = None
    amr: tuple[str, ...] = ()
    auth_time: int | None = None
    act: Actor | None = None
    sub_type: str | None = None
    exchanged_from: tuple[str, ...] = ()

    @property
    def actors(self) -> tuple[str, ...]:
        """The clients that have acted with the token, the latest first (RFC 8693 §4.1)."""
        actors, act = [], self.act
        while act is not None:
            actors.append(act.sub)
            act = act.act
        return tuple(actors)

    @property
    def audience(self) -> tuple[str, ...]:
        """The recipients that the token is intended for (RFC 7519 §4.1.3)."""
        return (self.aud,) if isinstance(self.aud, str) else self.aud


class PresentedAccessToken(NamedTuple):
    """An access token's claims. `vouched`, called with the family's seed, tells whether this service made them."""

    claims: AccessTokenClaims
    vouched: Callable[[str], bool]


def matches(state: FamilyState, token: PresentedAccessToken) -> bool:
    """Whether the family issued this token: `sub` and holder are the family's, and its scope is no wider.

    The state holds the client and scope of the latest access token exactly. An older one is compared with the grant.
    """
    claims = token.claims
    if state.access is None or claims.sub != state.sub or not token.vouched(state.seed):
        return False
    is_latest = claims.jti == state.access.jti
    actors = claims.actors
    holder = actors[0] if actors and not is_latest else state.client_id
    widest = state.access.scope if is_latest else state.scope
    return claims.client_id == holder and set(claims.scope.split()) <= set(widest.split())


def is_revoked(state: FamilyState, token: PresentedAccessToken) -> bool:
    """Whether the family has ended, or the token was revoked by itself, or a token that it was exchanged from was.

    A token never outlives the tokens it was exchanged from, so `revoked_jtis` holds each of them for long enough.
    """
    claims = token.claims
    return state.revoked is not None or not state.revoked_jtis.keys().isdisjoint((claims.jti, *claims.exchanged_from))
