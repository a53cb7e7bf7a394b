"""What an access token says of itself, and whether the log bears it out: with a key that leaked, anything is signed."""

from typing import NamedTuple

from events.family import FamilyState


class Claimed(NamedTuple):
    """An access token's claims. `actors` is who has acted with it, the latest first (RFC 8693 §4.1)."""

    sub: str
    client_id: str
    jti: str
    scope: str
    actors: tuple[str, ...] = ()


def is_borne_out(state: FamilyState, claimed: Claimed) -> bool:
    """Whether the family may have given such a token: it is its person's, its holder's, and of no wider scope.

    Nothing here changes once a family has given a token, but for which is the latest; of that one the state tells
    holder and scope exactly.
    """
    if state.access is None or claimed.sub != state.sub:
        return False
    is_latest = claimed.jti == state.access.jti
    holder = claimed.actors[0] if claimed.actors and not is_latest else state.client_id
    widest = state.access.scope if is_latest else state.scope
    return claimed.client_id == holder and set(claimed.scope.split()) <= set(widest.split())
