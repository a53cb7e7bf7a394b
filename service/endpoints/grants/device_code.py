"""`urn:ietf:params:oauth:grant-type:device_code`: a device asks whether it was approved (RFC 8628 §3.4)."""

from datetime import datetime

from service import clock
from service.access_tokens.token_response import token_response
from service.context import Caller
from service.decide.authorization_code import RedeemDeviceCode, expired, redeem_device_code
from service.decide.decision import Decision, invalid_grant
from service.decide.scope import parse_resources
from service.endpoints.grants.idempotency import retry_of
from service.endpoints.grants.token_request import TokenRequest
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.families.families import CommittedDecision, Decide
from service.replicas.waiting_devices import state_of
from service.request import Request, required


async def handle(caller: Caller, request: Request, parameters: TokenRequest) -> bytes:
    """A token response once a person has approved the device.

    Until then it raises the errors of RFC 8628 §3.5: `authorization_pending`, `slow_down`, `access_denied`,
    `expired_token`; and `invalid_grant` for a device code that is not valid.
    """
    context, tenant, client = caller.context, caller.tenant, caller.client
    code = required(parameters.device_code, "device_code")
    resource = parse_resources(parameters.resource)
    retry = retry_of(request, parameters)
    presented = tenant.device_codes.recognise(code)
    if presented is None:
        raise invalid_grant().error

    def decide(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
        state = loaded.state
        if state is None:
            return Decision(expired())
        if not tenant.device_codes.is_minted_for(presented, state.seed):
            return Decision(invalid_grant())
        command = RedeemDeviceCode(
            now=now,
            rules=client.rules,
            client_id=client.client_id,
            resource=resource,
            retry=retry,
            jti=commit_id,
            key=tenant.mac_key,
            answered_at=loaded.answered_at,
        )
        return redeem_device_code(state, command)

    committed = await poll(caller, presented.family_id, decide)
    try:
        return await token_response(caller, committed)
    except OAuthError as error:
        if error.code == "authorization_pending" and await context.devices.polling.record_poll(presented.family_id):
            raise OAuthError("slow_down", "polled too soon; wait 5 seconds longer from now on") from error
        raise


async def poll(caller: Caller, family_id: str, decide: Decide) -> CommittedDecision:
    """Decide on the family in the log; where there is none, on the request that waits, and append nothing."""
    context, tenant = caller.context, caller.tenant.name
    committed = await context.families.decide(tenant, family_id, caller.actor, decide)
    if committed.state is not None:
        return committed
    waiting = await context.devices.waiting.find(tenant, family_id)
    if waiting is None:  # a person has answered it just now, or it has expired
        return await context.families.decide(tenant, family_id, caller.actor, decide)
    asked = LoadedFamily(0, None, state_of(waiting), from_leader=True)
    return CommittedDecision(family_id, decide(asked, clock.now(), "").outcome, asked.state, 0)
