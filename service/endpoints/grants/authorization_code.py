"""`authorization_code` with PKCE (RFC 6749 §4.1.3, RFC 7636)."""

import re
from datetime import datetime

from service.access_tokens.token_response import token_response
from service.context import Caller
from service.decide.authorization_code import RedeemCode, redeem_code
from service.decide.decision import Decision, invalid_grant
from service.decide.scope import parse_resources
from service.endpoints.grants.idempotency import retry_of
from service.endpoints.grants.token_request import TokenRequest
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.request import Request, required

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


async def handle(caller: Caller, request: Request, parameters: TokenRequest) -> bytes:
    """A token response with the family's first tokens. Raises `invalid_request`, `invalid_grant`, `invalid_target`."""
    tenant, client = caller.tenant, caller.client
    code = required(parameters.code, "code")
    verifier = required(parameters.code_verifier, "code_verifier")
    if not _VERIFIER.fullmatch(verifier):
        raise OAuthError(
            "invalid_request", "code_verifier must be 43 to 128 unreserved characters (RFC 7636 section 4.1)"
        )
    resource = parse_resources(parameters.resource)
    retry = retry_of(request, parameters)
    presented = tenant.codes.recognise(code)
    if presented is None:
        raise invalid_grant().error

    def decide(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
        state = loaded.state
        if state is not None and not tenant.codes.is_minted_for(presented, state.seed):
            return Decision(invalid_grant())
        command = RedeemCode(
            now=now,
            rules=client.rules,
            client_id=client.client_id,
            code_verifier=verifier,
            redirect_uri=parameters.redirect_uri,
            resource=resource,
            retry=retry,
            jti=commit_id,
            key=tenant.mac_key,
            cause=f"second redemption of the code by {caller.actor}",
        )
        return redeem_code(state, command)

    committed = await caller.context.families.decide(tenant.name, presented.family_id, caller.actor, decide)
    state = committed.state
    nonce = state.code.nonce if state is not None and state.code is not None else None
    return await token_response(caller, committed, nonce=nonce)
