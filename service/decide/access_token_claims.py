"""What an access token says of itself, and whether the log bears it out: with a key that leaked, anything is signed."""

from collections.abc import Callable
from typing import NamedTuple

from events.aggregates.family import FamilyState


class AccessTokenClaims(NamedTuple):
    """An access token's claims. `vouched` tells, given the family's seed, whether the service made just these.

    `actors` is who has acted with it (RFC 8693 §4.1), `exchanged_from` the `jti` of each token that it came of; both
    the latest first.
    """

    sub: str
    client_id: str
    jti: str
    scope: str
    vouched: Callable[[str], bool]
    actors: tuple[str, ...] = ()
    exchanged_from: tuple[str, ...] = ()


def matches(state: FamilyState, claimed: AccessTokenClaims) -> bool:
    """Whether the family gave this token: it is vouched for, its person's, its holder's, and of no wider scope.

    Nothing here changes once a family has given a token, but for which is the latest; of that one the state tells
    holder and scope exactly.
    """
    if state.access is None or claimed.sub != state.sub or not claimed.vouched(state.seed):
        return False
    is_latest = claimed.jti == state.access.jti
    holder = claimed.actors[0] if claimed.actors and not is_latest else state.client_id
    widest = state.access.scope if is_latest else state.scope
    return claimed.client_id == holder and set(claimed.scope.split()) <= set(widest.split())


def is_revoked(state: FamilyState, claimed: AccessTokenClaims) -> bool:
    """Whether the family has ended, or the token was revoked alone, or one that it was exchanged from.

    None of those outlives the ones it came of, so each is remembered for as long as it counts.
    """
    return state.revoked is not None or not state.revoked_jtis.keys().isdisjoint((claimed.jti, *claimed.exchanged_from))
