"""The successful token response (RFC 6749 §5.1), and the tokens in it."""

from typing import Any, NamedTuple

import msgspec

from events.aggregates.family import AccessToken, FamilyState, is_of_a_person
from service import clock
from service.access_tokens.opaque import sequence_of
from service.context import Context
from service.decide.access_token_lifetime import expires_in
from service.decide.decision import Granted, Refused
from service.decide.scope import OPENID, still
from service.errors import OAuthError
from service.families.families import CommittedDecision
from service.keys.signing_key import SigningKey
from service.registry.registry import Client, Tenant


class Exchanged(NamedTuple):
    """Where an access token comes from (RFC 8693): who has acted with it, and the `jti` of each that it came of; both
    the latest first.
    """

    act: tuple[str, ...]
    exchanged_from: tuple[str, ...]


NOT_EXCHANGED = Exchanged((), ())


async def token_response(
    context: Context,
    tenant: Tenant,
    client: Client,
    family_id: str,
    concluded: CommittedDecision,
    *,
    nonce: str | None = None,
    exchanged: Exchanged = NOT_EXCHANGED,
    with_id_token: bool = True,
    more: dict[str, str] | None = None,
) -> bytes:
    """`access_token`, `token_type`, `expires_in` (seconds), `scope`; `refresh_token` and `id_token` where there are.

    Raises what the decision refused.
    """
    granted, state = _granted(concluded)
    access = granted.access
    response: dict[str, Any] = {
        "access_token": await _access_token(
            context, tenant, client, family_id, state, granted, concluded.seq, exchanged
        ),
        "token_type": "Bearer",
        "expires_in": expires_in(access, clock.now()),
        "scope": access.scope,
    }
    if granted.generation is not None:
        response["refresh_token"] = tenant.refresh_tokens.mint(granted.key, family_id, granted.generation, state.seed)
    if with_id_token and OPENID in still(state.scope, client.rules.scope).split(" "):
        response["id_token"] = _id_token(tenant, client, family_id, state, access, nonce)
    return msgspec.json.encode(response | more if more else response)


def claims_of(
    tenant: Tenant, client_id: str, family_id: str, state: FamilyState, access: AccessToken, exchanged: Exchanged
) -> dict[str, Any]:
    """An access token's claims (RFC 9068 §2.2). They follow from the log alone, so a retry signs the very same ones."""
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
    if not is_of_a_person(state):
        claims["sub_type"] = "client"  # RFC 9700 §4.15: a person may be called as the client is
    if exchanged.act:
        claims["act"] = _actors(exchanged.act)
    if exchanged.exchanged_from:
        claims["exchanged_from"] = exchanged.exchanged_from
    return claims | _authentication(state)


def _granted(concluded: CommittedDecision) -> tuple[Granted, FamilyState]:
    match concluded.outcome, concluded.state:
        case Granted() as granted, FamilyState() as state:
            return granted, state
        case Refused(error), _:
            raise error
        case _:
            raise OAuthError("server_error", "the decision came to nothing")


async def _access_token(
    context: Context,
    tenant: Tenant,
    client: Client,
    family_id: str,
    state: FamilyState,
    granted: Granted,
    seq: int,
    exchanged: Exchanged,
) -> str:
    key = granted.key or tenant.mac_key
    if client.rules.access_token_format == "jwt":
        claims = claims_of(tenant, client.client_id, family_id, state, granted.access, exchanged)
        return signing_key(tenant).sign(tenant.vouchers.vouch(key, state.seed, claims))
    issued_at = seq or await sequence_of(context, tenant, family_id, granted.access.jti)
    return tenant.opaque_tokens.mint(key, family_id, issued_at, state.seed)


def _id_token(
    tenant: Tenant, client: Client, family_id: str, state: FamilyState, access: AccessToken, nonce: str | None
) -> str:
    """OpenID Connect Core §2, §12.2: after a refresh the same person and `auth_time`, and no nonce."""
    claims: dict[str, Any] = {
        "iss": tenant.issuer,
        "sub": state.sub,
        "aud": client.client_id,
        "iat": int(access.issued_at.timestamp()),
        "exp": int(access.expires_at.timestamp()),
        "sid": family_id,
    }
    if nonce is not None:
        claims["nonce"] = nonce
    return signing_key(tenant).sign(claims | _authentication(state), "JWT")


def signing_key(tenant: Tenant) -> SigningKey:
    """The active key. Raises `temporarily_unavailable` for a tenant that has none yet."""
    if tenant.signing is None:
        raise OAuthError("temporarily_unavailable", "the tenant has no signing key yet")
    return tenant.signing


def _authentication(state: FamilyState) -> dict[str, Any]:
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
