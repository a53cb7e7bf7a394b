"""`revoke`: token revocation (RFC 7009)."""

from datetime import datetime

import msgspec

from service import clock
from service.access_tokens.recognise import recognise
from service.context import Caller, Context
from service.decide.decision import Decision, Done
from service.decide.revocation import RevokeAccessToken, RevokeRefreshToken, revoke_access_token, revoke_refresh_token
from service.families.cache import LoadedFamily
from service.request import Request, parameters_of, required


class RevokeRequest(msgspec.Struct, frozen=True):
    """The parameters of RFC 7009 §2.1. The hint is not needed: a token's form shows its kind."""

    token: str | None = None
    token_type_hint: str | None = None
    client_id: str | None = None


class RevokeResponse(msgspec.Struct, frozen=True):
    """Nothing: it does not tell whether there was such a token (RFC 7009 §2.2)."""


DONE = msgspec.json.encode(RevokeResponse())
_decoder = msgspec.json.Decoder(RevokeRequest)


async def handle(context: Context, request: Request) -> bytes:
    """`{}`, also for a token that is unknown or dead already (RFC 7009 §2.2).

    Raises `invalid_request` for a missing token, `temporarily_unavailable` where too many tokens of the family are
    revoked one by one already, and `Unavailable`.
    """
    parameters = parameters_of(request, _decoder)
    caller = await context.caller(request.tenant, request.client_id)
    tenant = caller.tenant
    token = required(parameters.token, "token")
    if presented := tenant.refresh_tokens.recognise(token):

        def end_family(loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
            state = loaded.state
            if state is not None and not tenant.refresh_tokens.is_minted_for(presented, state.seed):
                return Decision(Done())
            cause = f"revocation of generation {presented.number} by {caller.actor}"
            return revoke_refresh_token(state, RevokeRefreshToken(caller.client.client_id, presented.number, cause))

        (await context.families.decide(tenant.name, presented.family_id, caller.actor, end_family)).or_raise()
        return DONE
    return await _revoke_access_token(caller, token)


async def _revoke_access_token(caller: Caller, token: str) -> bytes:
    context, tenant = caller.context, caller.tenant
    presented = await recognise(context, tenant, token)
    if presented is None:
        return DONE
    claims = presented.claims
    expires_at, apart = clock.of(claims.exp), 2 * context.skew.tolerated
    cause = f"revocation of access token {claims.jti} by {caller.actor}"

    def end_token(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
        command = RevokeAccessToken(now, caller.client.client_id, presented, expires_at, apart, cause)
        return revoke_access_token(loaded.state, command)

    (await context.families.decide(tenant.name, claims.sid, caller.actor, end_token)).or_raise()
    return DONE
