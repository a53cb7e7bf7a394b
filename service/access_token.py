"""Recognising an access token this tenant signed (RFC 9068 §4)."""

from typing import Any

import msgspec

from service.registry import Tenant
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


def recognise(tenant: Tenant, token: str) -> Claims | None:
    """The claims if one of the tenant's keys signed them, whatever the time; None otherwise. Reads nothing."""
    parts = token.encode("ascii", "replace").split(b".")
    if len(parts) != 3:
        return None
    kid = kid_of(parts[0])
    key = tenant.keys.get(kid) if kid is not None else None
    claims: dict[str, Any] | None = key.verify(*parts) if key is not None else None
    if claims is None or claims.get("iss") != tenant.issuer:
        return None
    try:
        return msgspec.convert(claims, Claims)
    except msgspec.ValidationError:
        return None
