"""`introspect`: token introspection (RFC 7662)."""

from datetime import datetime
from typing import Any

import msgspec

from events.family import FamilyState
from service import clock
from service.access_token import Claims, active
from service.context import Context
from service.decide.redeem import ends_at, given_at
from service.registry import Client, Tenant
from service.request import Request, parameters_of, required
from service.tokens import Presented

INACTIVE = b'{"active":false}'
"""All that is ever told of a token that is not active for this caller (RFC 7662 §2.2)."""


class IntrospectRequest(msgspec.Struct, frozen=True):
    """The hint is not needed: a token tells its kind (RFC 7662 §2.1)."""

    token: str | None = None
    token_type_hint: str | None = None


_decoder = msgspec.json.Decoder(IntrospectRequest)


async def handle(context: Context, request: Request) -> bytes:
    """RFC 7662 §2.2. Decided on what the stream's leader has, never on a cache."""
    parameters = parameters_of(request, _decoder)
    tenant, client = await context.caller(request.tenant, request.client_id)
    token = required(parameters.token, "token")
    described: dict[str, Any] | None = None
    if presented := tenant.refresh_tokens.recognise(token):
        family = await context.families.load(tenant.name, presented.family_id)
        if family.state is not None and tenant.refresh_tokens.is_minted_for(presented, family.state.seed):
            owner = await context.registry.client(tenant, family.state.client_id)
            described = _refresh_token(tenant, owner, family.state, presented, clock.now())
    elif claims := await active(context, tenant, token):
        described = _access_token(claims)
    if described is None or not _may_know(client, described["client_id"]):
        return INACTIVE
    return msgspec.json.encode({"active": True} | described)


def _may_know(client: Client, owner: str) -> bool:
    return client.rules.may_introspect or client.client_id == owner


def _refresh_token(
    tenant: Tenant, owner: Client | None, state: FamilyState, presented: Presented, now: datetime
) -> dict[str, Any] | None:
    """Only the newest generation is active, and only while the family lives and its client's rules of today allow."""
    if owner is None or state.revoked is not None or presented.number != state.generation:
        return None
    expires_at = ends_at(state, owner.rules)
    if expires_at <= now:
        return None
    audience = state.audience
    return {
        "client_id": state.client_id,
        "sub": state.sub,
        "scope": state.scope,
        "aud": audience[0] if len(audience) == 1 else audience,
        "iss": tenant.issuer,
        "iat": int(given_at(state).timestamp()),
        "exp": int(expires_at.timestamp()),
        "sid": presented.family_id,
    }


def _access_token(claims: Claims) -> dict[str, Any]:
    known: dict[str, Any] = {
        name: value for name in claims.__struct_fields__ if (value := getattr(claims, name)) not in (None, ())
    }
    return known | {"token_type": "Bearer"}
