"""Recognising an access token of this service, signed or opaque (RFC 9068 §4)."""

from typing import NamedTuple

import msgspec

from events.aggregates.family import FamilyState
from service import clock
from service.access_tokens.issued_token import claims_of
from service.access_tokens.opaque import recognise_opaque
from service.context import Context
from service.decide.access_token_claims import AccessTokenClaims, PresentedAccessToken, is_revoked, matches
from service.decide.scope import allowed_of
from service.keys.signing_key import kid_of
from service.registry.tenant import Tenant


class ActiveToken(NamedTuple):
    """An active access token: its claims, the part of its audience that still holds, and its family's state."""

    claims: AccessTokenClaims
    audience: tuple[str, ...]
    family: FamilyState


async def recognise(context: Context, tenant: Tenant, token: str) -> PresentedAccessToken | None:
    """The token if this tenant's key has signed it, expired or not; None otherwise. Raises `Unavailable`.

    Whether the claims match the log is decided on the family's state (`matches`). A token is void for good if its
    holder or one of its actors is or was disabled since, also in another client's family (RFC 8693, CONTRACT §2).
    """
    issued = await _issued(context, tenant, token)
    if issued is None:
        return None
    for client_id in {issued.claims.client_id, *issued.claims.actors}:
        client = await context.registry.client(tenant, client_id)
        if client is None or client.state.disabled:
            return None
        void_until = client.state.void_until
        if void_until is not None and issued.claims.iat <= void_until.timestamp():
            return None
    return issued


async def audience_today(context: Context, tenant: Tenant, claims: AccessTokenClaims) -> tuple[str, ...]:
    """The part of the token's audience that its holder may have tokens for today (RFC 8707 §2.2).

    Raises `Unavailable`.
    """
    holder = await context.registry.client(tenant, claims.client_id)
    allowed = holder.rules.audiences if holder is not None else ()
    return allowed_of(claims.audience, (*allowed, claims.client_id) if claims.actors else allowed)


async def active_in(context: Context, tenant: Tenant, token: str) -> ActiveToken | None:
    """The token if it is active now, as of the log's leader; None otherwise.

    Raises `Unavailable`.
    """
    presented = await recognise(context, tenant, token)
    if presented is None or presented.claims.exp <= clock.now().timestamp():
        return None
    claims = presented.claims
    loaded = await context.families.load(tenant.name, claims.sid)
    state = loaded.state
    if claims.exp <= loaded.no_earlier(clock.now()).timestamp():
        return None  # a revocation of the token may have been dropped from the state by now
    audience = await audience_today(context, tenant, claims)
    if not audience:
        return None
    if state is None or not matches(state, presented) or is_revoked(state, presented):
        return None
    return ActiveToken(claims, audience, state)


async def _issued(context: Context, tenant: Tenant, token: str) -> PresentedAccessToken | None:
    return await _opaque(context, tenant, token) if token.startswith("hat_") else _signed(tenant, token)


async def _opaque(context: Context, tenant: Tenant, token: str) -> PresentedAccessToken | None:
    issued = await recognise_opaque(context, tenant, token)
    if issued is None:
        return None
    # the token's MAC proves its commit, which holds all the other claims
    claims = msgspec.convert(claims_of(tenant, issued), AccessTokenClaims)
    return PresentedAccessToken(claims, lambda seed: seed == issued.state.seed)


def _signed(tenant: Tenant, token: str) -> PresentedAccessToken | None:
    parts = token.encode("ascii", "replace").split(b".")
    if len(parts) != 3:
        return None
    kid = kid_of(parts[0])
    known = next((known for known in tenant.published(clock.now()) if known.key.kid == kid), None)
    claims = known.key.verify(*parts) if known is not None else None
    if claims is None or claims.get("iss") != tenant.issuer:
        return None
    try:
        proof = tenant.vouchers.proof_of(claims)
        return None if proof is None else PresentedAccessToken(msgspec.convert(claims, AccessTokenClaims), proof)
    except (msgspec.ValidationError, RecursionError):
        return None
