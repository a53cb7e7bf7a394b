"""The claims of an access token and of the ID token beside it (RFC 9068 §2.2, OpenID Connect Core §2)."""

from typing import Any, NamedTuple

from events.aggregates.family import AccessToken, FamilyState, is_of_a_person
from service.registry.tenant import Tenant


class Exchanged(NamedTuple):
    """Where an access token comes from (RFC 8693): its actors, and the `jti` of each token that it was exchanged from.

    Both have the latest first, and are empty where the token was not exchanged.
    """

    act: tuple[str, ...]
    exchanged_from: tuple[str, ...]


NOT_EXCHANGED = Exchanged((), ())


class IssuedToken(NamedTuple):
    """An access token as its commit describes it: `client_id` is its holder, `state` its family after the commit."""

    family_id: str
    state: FamilyState
    access: AccessToken
    client_id: str
    exchanged: Exchanged = NOT_EXCHANGED


def claims_of(tenant: Tenant, token: IssuedToken) -> dict[str, Any]:
    """The token's claims (RFC 9068 §2.2). They follow from the log alone, so a retry signs the very same ones."""
    state, access, exchanged = token.state, token.access, token.exchanged
    claims: dict[str, Any] = {
        "iss": tenant.issuer,
        "sub": state.sub,
        "aud": access.audience[0] if len(access.audience) == 1 else access.audience,
        "client_id": token.client_id,
        "iat": int(access.issued_at.timestamp()),
        "exp": int(access.expires_at.timestamp()),
        "jti": access.jti,
        "sid": token.family_id,
        "scope": access.scope,
    }
    if not is_of_a_person(state):
        claims["sub_type"] = "client"  # RFC 9700 §4.15: a person may be called as the client is
    if exchanged.act:
        claims["act"] = _actors(exchanged.act)
    if exchanged.exchanged_from:
        claims["exchanged_from"] = exchanged.exchanged_from
    return claims | _authentication_of(state)


def id_token_claims_of(tenant: Tenant, token: IssuedToken, nonce: str | None) -> dict[str, Any]:
    """The claims of the ID token beside it (OpenID Connect Core §2).

    After a refresh they have the same person and `auth_time`, and no nonce (§12.2).
    """
    claims: dict[str, Any] = {
        "iss": tenant.issuer,
        "sub": token.state.sub,
        "aud": token.client_id,
        "iat": int(token.access.issued_at.timestamp()),
        "exp": int(token.access.expires_at.timestamp()),
        "sid": token.family_id,
    }
    if nonce is not None:
        claims["nonce"] = nonce
    return claims | _authentication_of(token.state)


def _authentication_of(state: FamilyState) -> dict[str, Any]:
    """The claims about how the person authenticated, as far as that is known (OpenID Connect Core §2)."""
    known: dict[str, Any] = {}
    if state.acr is not None:
        known["acr"] = state.acr
    if state.amr:
        known["amr"] = state.amr
    if state.auth_time is not None:
        known["auth_time"] = state.auth_time
    return known


def _actors(act: tuple[str, ...]) -> dict[str, Any]:
    """RFC 8693 §4.1: the current actor outside, those before it inside."""
    latest, *before = act
    return {"sub": latest} | ({"act": _actors(tuple(before))} if before else {})
