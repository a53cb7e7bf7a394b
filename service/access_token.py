"""Recognising an access token of ours, signed or opaque (RFC 9068 §4)."""

from typing import Any

import msgspec

from events.family import FamilyState
from service import clock
from service.context import Context
from service.opaque import recognise_opaque
from service.registry import Tenant
from service.response import claims_of
from service.signing import kid_of


class Claims(msgspec.Struct, frozen=True):
    """The claims of an access token of ours; `exp` and `iat` are NumericDates."""

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    client_id: str
    iat: int
    exp: int
    jti: str
    sid: str
    scope: str
    acr: str | None = None
    amr: tuple[str, ...] = ()
    auth_time: int | None = None
    act: dict[str, Any] | None = None

    @property
    def actors(self) -> tuple[str, ...]:
        """Who has acted with it, the latest first (RFC 8693 §4.1)."""
        actors, act = [], self.act
        while act is not None:
            actors.append(str(act["sub"]))
            act = act.get("act")
        return tuple(actors)


async def recognise(context: Context, tenant: Tenant, token: str) -> Claims | None:
    """The claims if this tenant issued the token, whatever the time; None otherwise. Raises `Unavailable`.

    What a disabled client holds is void, also in a family that another client began (RFC 8693), and stays so.
    """
    claims = await _issued(context, tenant, token)
    holder = await context.registry.client(tenant, claims.client_id) if claims is not None else None
    if claims is None or holder is None or holder.state.disabled:
        return None
    void_until = holder.state.void_until
    return None if void_until is not None and claims.iat <= void_until.timestamp() else claims


async def active(context: Context, tenant: Tenant, token: str) -> Claims | None:
    """The claims if the token is good now, as the log's leader has it. Raises `Unavailable`."""
    found = await active_in(context, tenant, token)
    return None if found is None else found[0]


async def active_in(context: Context, tenant: Tenant, token: str) -> tuple[Claims, FamilyState] | None:
    """As `active`, with the family that the token is of."""
    claims = await recognise(context, tenant, token)
    if claims is None or claims.exp <= clock.now().timestamp():
        return None
    state = (await context.families.load(tenant.name, claims.sid)).state
    if state is None or not _is_of(state, claims) or state.revoked is not None or claims.jti in state.revoked_jtis:
        return None
    return claims, state


def _is_of(state: FamilyState, claims: Claims) -> bool:
    """Whether the log bears out what a signature alone says: with a key that leaked, anything can be signed."""
    return claims.sub == state.sub and (claims.client_id == state.client_id or claims.act is not None)


async def _issued(context: Context, tenant: Tenant, token: str) -> Claims | None:
    if token.startswith("hat_"):
        issued = await recognise_opaque(context, tenant, token)
        if issued is None:
            return None
        claims = claims_of(tenant, issued.client_id, issued.family_id, issued.state, issued.access, issued.act)
        return msgspec.convert(claims, Claims)
    return _signed(tenant, token)


def _signed(tenant: Tenant, token: str) -> Claims | None:
    parts = token.encode("ascii", "replace").split(b".")
    if len(parts) != 3:
        return None
    kid = kid_of(parts[0])
    known = next((known for known in tenant.published(clock.now()) if known.key.kid == kid), None)
    claims = known.key.verify(*parts) if known is not None else None
    if claims is None or claims.get("iss") != tenant.issuer:
        return None
    try:
        return msgspec.convert(claims, Claims)
    except msgspec.ValidationError:
        return None
