"""Recognising an access token of ours, signed or opaque (RFC 9068 §4)."""

from typing import Any

import msgspec

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

    What a disabled client holds is void, also in a family that another client began (RFC 8693).
    """
    claims = await _issued(context, tenant, token)
    holder = await context.registry.client(tenant, claims.client_id) if claims is not None else None
    return None if holder is None or holder.state.disabled else claims


async def active(context: Context, tenant: Tenant, token: str) -> Claims | None:
    """The claims if the token is good now, as the log's leader has it. Raises `Unavailable`."""
    claims = await recognise(context, tenant, token)
    if claims is None or claims.exp <= clock.now().timestamp():
        return None
    state = (await context.families.load(tenant.name, claims.sid)).state
    return None if state is None or state.revoked is not None or claims.jti in state.revoked_jtis else claims


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
    known = tenant.keys.get(kid) if kid is not None else None
    claims = known.key.verify(*parts) if known is not None else None
    if claims is None or claims.get("iss") != tenant.issuer:
        return None
    try:
        return msgspec.convert(claims, Claims)
    except msgspec.ValidationError:
        return None
