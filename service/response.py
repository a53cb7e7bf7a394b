"""The successful token response (RFC 6749 §5.1)."""

from datetime import datetime
from typing import Any

import msgspec

from events.family import AccessToken, FamilyState
from service.decide.outcome import Granted
from service.errors import OAuthError
from service.registry import Client, Tenant


def token_response(
    tenant: Tenant, client: Client, family_id: str, state: FamilyState, granted: Granted, now: datetime
) -> bytes:
    """`access_token`, `token_type`, `expires_in` (seconds), `scope`, and `refresh_token` where there is one."""
    access = granted.access
    response: dict[str, Any] = {
        "access_token": access_token(tenant, client.client_id, family_id, state, access),
        "token_type": "Bearer",
        "expires_in": max(round((access.expires_at - now).total_seconds()), 0),
        "scope": access.scope,
    }
    if granted.generation is not None:
        response["refresh_token"] = tenant.refresh_tokens.mint(granted.key, family_id, granted.generation, state.seed)
    return msgspec.json.encode(response)


def access_token(tenant: Tenant, client_id: str, family_id: str, state: FamilyState, access: AccessToken) -> str:
    """The JWT (RFC 9068 §2). Its claims follow from the log alone, so a retry signs the very same ones."""
    if tenant.signing is None:
        raise OAuthError("temporarily_unavailable", "the tenant has no signing key yet")
    claims: dict[str, Any] = {
        "iss": tenant.issuer,
        "sub": state.sub,
        "aud": access.audience[0] if len(access.audience) == 1 else access.audience,
        "client_id": client_id,
        "iat": int(access.issued_at.timestamp()),
        "exp": int(access.expires_at.timestamp()),
        "jti": access.jti,
        "sid": family_id,
        "scope": access.scope,
    }
    if state.acr is not None:
        claims["acr"] = state.acr
    if state.amr:
        claims["amr"] = state.amr
    if state.auth_time is not None:
        claims["auth_time"] = state.auth_time
    return tenant.signing.sign(claims)
