"""`introspect`: token introspection (RFC 7662)."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from events.aggregates.family import FamilyState
from service import clock
from service.access_tokens.recognise import active_in
from service.context import Context
from service.decide.access_token_claims import AccessTokenClaims
from service.decide.refresh_token import ends_at, given_at, is_accepted
from service.decide.scope import narrow_resources, still
from service.keys.mac_tokens import PresentedToken
from service.registry.tenant import Client, Tenant
from service.request import Request, parameters_of, required

INACTIVE = b'{"active":false}'
"""The whole reply for a token that is not active for this caller (RFC 7662 §2.2)."""


class IntrospectRequest(msgspec.Struct, frozen=True):
    """The parameters of RFC 7662 §2.1. The hint is not needed: a token's form shows its kind."""

    token: str | None = None
    token_type_hint: str | None = None
    client_id: str | None = None


Introspection = msgspec.defstruct(
    "Introspection",
    [
        ("active", bool),
        *((field.name, field.type | UnsetType, UNSET) for field in msgspec.structs.fields(AccessTokenClaims)),
        ("token_type", str | UnsetType, UNSET),
    ],
    namespace={"__doc__": "RFC 7662, section 2.2: the claims of an access token, or what is known of a refresh token."},
)
"""The type of the replies."""
_decoder = msgspec.json.Decoder(IntrospectRequest)


async def handle(context: Context, request: Request) -> bytes:
    """What the token may do (RFC 7662 §2.2), or `INACTIVE`. It is read from the stream's leader, never from a cache.

    Raises `invalid_request` for a missing token, and `Unavailable`.
    """
    parameters = parameters_of(request, _decoder)
    caller = await context.caller(request.tenant, request.client_id)
    tenant, client = caller.tenant, caller.client
    token = required(parameters.token, "token")
    described: dict[str, Any] | None = None
    if presented := tenant.refresh_tokens.recognise(token):
        family = await context.families.load(tenant.name, presented.family_id)
        if family.state is not None and tenant.refresh_tokens.is_minted_for(presented, family.state.seed):
            owner = await context.registry.client(tenant, family.state.client_id)
            described = _refresh_token(tenant, owner, family.state, presented, family.no_earlier(clock.now()))
    elif found := await active_in(context, tenant, token):
        scope = await _scope_today(context, tenant, found.claims, found.family)
        described = _access_token(found.claims, scope, found.audience)
    if described is None or not _may_know(request, client, described["client_id"]):
        return INACTIVE
    return msgspec.json.encode({"active": True} | described)


def _may_know(request: Request, client: Client, owner: str) -> bool:
    """Whether the caller may see this client's tokens. A person's token has no `may_introspect`: others see it too."""
    return client.client_id == owner or (client.rules.may_introspect and not request.by_person)


def _refresh_token(
    tenant: Tenant, owner: Client | None, state: FamilyState, presented: PresentedToken, now: datetime
) -> dict[str, Any] | None:
    """The reply for a refresh token; None unless it is the newest and could be redeemed now (RFC 7662 §2.2)."""
    if owner is None or owner.state.disabled or presented.number != state.generation:
        return None
    if not is_accepted(state, owner.rules, now):
        return None
    audience = narrow_resources(None, state.audience, owner.rules.audiences)
    return {
        "client_id": state.client_id,
        "sub": state.sub,
        "scope": still(state.scope, owner.rules.scope),
        "aud": _aud(audience),
        "iss": tenant.issuer,
        "iat": int(given_at(state).timestamp()),
        "exp": int(ends_at(state, owner.rules).timestamp()),
        "sid": presented.family_id,
    }


async def _scope_today(context: Context, tenant: Tenant, claims: AccessTokenClaims, state: FamilyState) -> str:
    """The part of the token's scope that both its holder and the family's client are registered for today."""
    scope = claims.scope
    for client_id in {claims.client_id, state.client_id}:
        client = await context.registry.client(tenant, client_id)
        scope = still(scope, client.rules.scope if client is not None else "")
    return scope


def _access_token(claims: AccessTokenClaims, scope: str, audience: tuple[str, ...]) -> dict[str, Any] | None:
    """The reply for an access token; None where nothing is left of its scope, since it may do nothing any more."""
    if claims.scope and not scope:
        return None
    known: dict[str, Any] = {
        name: value for name in claims.__struct_fields__ if (value := getattr(claims, name)) not in (None, ())
    }
    return known | {"scope": scope, "aud": _aud(audience), "token_type": "Bearer"}


def _aud(audience: tuple[str, ...]) -> str | tuple[str, ...]:
    """The audience as a claim: a single one is a string (RFC 7519 §4.1.3)."""
    return audience[0] if len(audience) == 1 else audience
