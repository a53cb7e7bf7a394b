"""An access token's claims compared with its family in the log: a signature alone proves nothing once a key leaked."""

from collections.abc import Callable
from typing import NamedTuple

from events.aggregates.family import FamilyState


class AccessTokenClaims(NamedTuple):
    """An access token's claims. `vouched`, called with the family's seed, tells whether this service made them.

    `actors` are the clients that acted with the token (RFC 8693 §4.1), `exchanged_from` holds the `jti` of each token
    that it was exchanged from; both have the latest first.
    """

    sub: str
    client_id: str
    jti: str
    scope: str
    vouched: Callable[[str], bool]
    actors: tuple[str, ...] = ()
    exchanged_from: tuple[str, ...] = ()


def matches(state: FamilyState, claims: AccessTokenClaims) -> bool:
    """Whether the family issued this token: `sub` and holder are the family's, and its scope is no wider.

    The state holds the client and scope of the latest access token exactly. An older one is compared with the grant.
    """
    if state.access is None or claims.sub != state.sub or not claims.vouched(state.seed):
        return False
    is_latest = claims.jti == state.access.jti
    holder = claims.actors[0] if claims.actors and not is_latest else state.client_id
    widest = state.access.scope if is_latest else state.scope
    return claims.client_id == holder and set(claims.scope.split()) <= set(widest.split())


def is_revoked(state: FamilyState, claims: AccessTokenClaims) -> bool:
    """Whether the family has ended, or the token was revoked by itself, or a token that it was exchanged from was.

    A token never outlives the tokens it was exchanged from, so `revoked_jtis` holds each of them for long enough.
    """
    return state.revoked is not None or not state.revoked_jtis.keys().isdisjoint((claims.jti, *claims.exchanged_from))
