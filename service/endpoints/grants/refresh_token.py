"""`refresh_token`: redeeming a refresh token (RFC 6749 §6, CONTRACT §3)."""

import logging
import time
from datetime import datetime

from service.access_tokens.token_response import token_response
from service.context import Caller
from service.decide.decision import Decision, invalid_grant
from service.decide.refresh_token import Redeem, redeem
from service.decide.scope import parse_resources
from service.endpoints.grants.idempotency import retry_of
from service.endpoints.grants.token_request import TokenRequest
from service.families.cache import LoadedFamily
from service.refusal import too_many
from service.request import Request, required

log = logging.getLogger("heirloom.tokens")


async def handle(caller: Caller, request: Request, parameters: TokenRequest) -> bytes:
    """A token response with the successor. Raises `invalid_grant`, `invalid_scope`, `invalid_target`, `slow_down`."""
    context, tenant, client = caller.context, caller.tenant, caller.client
    token = required(parameters.refresh_token, "refresh_token")
    resource = parse_resources(parameters.resource)
    retry = retry_of(request, parameters)
    presented = tenant.refresh_tokens.recognise(token)
    if presented is None:
        raise invalid_grant().error
    bucket = context.families.buckets.of((tenant.name, client.client_id, presented.family_id))
    if not bucket.try_take(client.rules.family_requests_per_second, time.monotonic()):
        raise too_many("family")

    def count() -> None:
        bucket.owe()
        client.bucket.owe()

    def decide(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
        state = loaded.state
        if state is not None and not tenant.refresh_tokens.is_minted_for(presented, state.seed):
            log.warning(
                "a token's short tag is right and its long tag is not: treat the keyring as leaked",
                extra={"tenant": tenant.name, "client": client.client_id, "family": presented.family_id},
            )
            return Decision(invalid_grant())
        return redeem(
            state,
            Redeem(
                now=now,
                rules=client.rules,
                client_id=client.client_id,
                generation=presented.number,
                scope=parameters.scope,
                resource=resource,
                retry=retry,
                jti=commit_id,
                key=tenant.mac_key,
                cause=f"presentation of generation {presented.number} by {caller.actor}",
                answered_at=loaded.answered_at,
                redeemed_with=loaded.redeemed_with,
            ),
        )

    committed = await context.families.decide(tenant.name, presented.family_id, caller.actor, decide, count=count)
    return await token_response(caller, committed)
