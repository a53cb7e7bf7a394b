"""Recognising an access token of this service, signed or opaque (RFC 9068 §4)."""

from collections.abc import Callable
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from events.aggregates import subjects
from events.aggregates.family import FamilyState
from service import clock
from service.access_tokens.issued_token import claims_of
from service.access_tokens.opaque import recognise_opaque
from service.context import Context
from service.decide.access_token_claims import AccessTokenClaims, is_revoked, matches
from service.decide.scope import allowed_of
from service.keys.signing_key import kid_of
from service.registry.tenant import Tenant

NumericDate: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=253402300799)]
"""Seconds since 1970 (RFC 7519 §2), up to the end of the year 9999: `datetime` has no later time."""

FamilyId: TypeAlias = Annotated[str, msgspec.Meta(pattern=rf"\A{subjects.FAMILY_ID.pattern}\Z")]


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The current actor, and in `act` those before it (RFC 8693 §4.1)."""

    sub: str
    act: "Actor | None" = None


class Claims(msgspec.Struct, frozen=True):
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


class Recognised(NamedTuple):
    """An access token's claims, and those of them that must match the family in the log."""

    claims: Claims
    claimed: AccessTokenClaims


async def recognise(context: Context, tenant: Tenant, token: str) -> Recognised | None:
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


async def audience_today(context: Context, tenant: Tenant, claims: Claims) -> tuple[str, ...]:
    """The part of the token's audience that its holder may have tokens for today (RFC 8707 §2.2).

    Raises `Unavailable`.
    """
    holder = await context.registry.client(tenant, claims.client_id)
    allowed = holder.rules.audiences if holder is not None else ()
    return allowed_of(claims.audience, (*allowed, claims.client_id) if claims.actors else allowed)


async def active_in(context: Context, tenant: Tenant, token: str) -> tuple[Claims, FamilyState] | None:
    """The token's claims and its family's state if it is active now, as of the log's leader; None otherwise.

    Raises `Unavailable`.
    """
    recognised = await recognise(context, tenant, token)
    if recognised is None or recognised.claims.exp <= clock.now().timestamp():
        return None
    claims, claimed = recognised
    loaded = await context.families.load(tenant.name, claims.sid)
    state = loaded.state
    if claims.exp <= loaded.no_earlier(clock.now()).timestamp():
        return None  # a revocation of the token may have been dropped from the state by now
    if not await audience_today(context, tenant, claims):
        return None
    if state is None or not matches(state, claimed) or is_revoked(state, claimed):
        return None
    return claims, state


async def _issued(context: Context, tenant: Tenant, token: str) -> Recognised | None:
    return await _opaque(context, tenant, token) if token.startswith("hat_") else _signed(tenant, token)


async def _opaque(context: Context, tenant: Tenant, token: str) -> Recognised | None:
    issued = await recognise_opaque(context, tenant, token)
    if issued is None:
        return None
    # the token's MAC proves its commit, which holds all the other claims
    return _recognised(msgspec.convert(claims_of(tenant, issued), Claims), lambda seed: seed == issued.state.seed)


def _signed(tenant: Tenant, token: str) -> Recognised | None:
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
        return None if proof is None else _recognised(msgspec.convert(claims, Claims), proof)
    except (msgspec.ValidationError, RecursionError):
        return None


def _recognised(claims: Claims, vouched: Callable[[str], bool]) -> Recognised:
    scope, actors = claims.scope, claims.actors
    return Recognised(
        claims,
        AccessTokenClaims(claims.sub, claims.client_id, claims.jti, scope, vouched, actors, claims.exchanged_from),
    )
