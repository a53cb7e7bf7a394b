"""The successful token response (RFC 6749 §5.1), and the tokens in it."""

import msgspec
from msgspec import UNSET, UnsetType

from events.aggregates.family import FamilyState, is_of_a_person
from service import clock
from service.access_tokens.issued_token import NOT_EXCHANGED, Exchanged, IssuedToken, claims_of, id_token_claims_of
from service.access_tokens.opaque import sequence_of
from service.context import Caller
from service.decide.access_token_lifetime import expires_in
from service.decide.decision import Granted
from service.decide.scope import OPENID, still
from service.errors import OAuthError
from service.families.families import CommittedDecision
from service.keys.signing_key import SigningKey
from service.registry.tenant import Tenant

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
"""The type of every token that an exchange issues (RFC 8693 §3)."""


class TokenResponse(msgspec.Struct, omit_defaults=True):
    """RFC 6749 §5.1; `issued_token_type` is that of RFC 8693 §2.2.1, `id_token` that of OpenID Connect Core §12.2."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    refresh_token: str | UnsetType = UNSET
    issued_token_type: str | UnsetType = UNSET
    id_token: str | UnsetType = UNSET


async def token_response(
    caller: Caller, committed: CommittedDecision, *, nonce: str | None = None, exchanged: Exchanged = NOT_EXCHANGED
) -> bytes:
    """`access_token`, `token_type`, `expires_in` (seconds), `scope`; `refresh_token` and `id_token` where there are.

    An exchanged token has `issued_token_type` too, and no ID token beside it (RFC 8693 §2.2.1). Raises what the
    decision refused.
    """
    tenant, client = caller.tenant, caller.client
    granted, state = _granted(committed)
    access, family_id = granted.access, committed.family_id
    issued = IssuedToken(family_id, state, access, client.client_id, exchanged)
    access_token = await _access_token(caller, issued, granted.key, committed.seq)
    response = TokenResponse(access_token, "Bearer", expires_in(access, clock.now()), access.scope)
    if granted.generation is not None:
        response.refresh_token = tenant.refresh_tokens.mint(granted.key, family_id, granted.generation, state.seed)
    if exchanged is not NOT_EXCHANGED:
        response.issued_token_type = ACCESS_TOKEN
    elif is_of_a_person(state) and OPENID in still(state.scope, client.rules.scope).split(" "):
        response.id_token = signing_key(tenant).sign(id_token_claims_of(tenant, issued, nonce), "JWT")
    return msgspec.json.encode(response)


def _granted(committed: CommittedDecision) -> tuple[Granted, FamilyState]:
    outcome, state = committed.or_raise(), committed.state
    if not isinstance(outcome, Granted) or state is None:
        raise OAuthError("server_error", "the decision came to nothing")
    return outcome, state


async def _access_token(caller: Caller, issued: IssuedToken, key: int, seq: int) -> str:
    """The token's text: a JWT, or an opaque one that refers to its commit at `seq` (0: it is looked up in the log)."""
    tenant, seed = caller.tenant, issued.state.seed
    key = key or tenant.mac_key
    if caller.client.rules.access_token_format == "jwt":
        return signing_key(tenant).sign(tenant.vouchers.vouch(key, seed, claims_of(tenant, issued)))
    issued_at = seq or await sequence_of(caller.context, tenant, issued.family_id, issued.access.jti)
    return tenant.opaque_tokens.mint(key, issued.family_id, issued_at, seed)


def signing_key(tenant: Tenant) -> SigningKey:
    """The active key. Raises `temporarily_unavailable` for a tenant that has none yet."""
    if tenant.signing is None:
        raise OAuthError("temporarily_unavailable", "the tenant has no signing key yet")
    return tenant.signing
