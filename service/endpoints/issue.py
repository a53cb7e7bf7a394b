"""`issue`: tokens for a person whom the caller has authenticated itself (CONTRACT §2).

A first-party login works by this endpoint: there is no password grant (RFC 9700 §2.4).
"""

import msgspec

from events.aggregates.family_events import GrantAuthorized
from service.access_tokens.open_family import open_family
from service.context import Context
from service.decide.scope import REGISTERED, audience_of, narrow
from service.endpoints.end_user import PersonRequest, person_of
from service.errors import OAuthError
from service.keys.mac_tokens import new_seed
from service.request import Request, parameters_of


class IssueRequest(PersonRequest, frozen=True):
    """The person who was authenticated, and what is granted."""

    scope: str | None = None
    resource: str | tuple[str, ...] | None = None
    client_id: str | None = None


_decoder = msgspec.json.Decoder(IssueRequest)


async def handle(context: Context, request: Request) -> bytes:
    """A token response (RFC 6749 §5.1). Raises `unauthorized_client`, and as `open_family` and `person_of`."""
    parameters = parameters_of(request, _decoder)
    caller = await context.caller(request.tenant, request.client_id)
    client = caller.client
    if not client.rules.may_issue:
        raise OAuthError("unauthorized_client", "this client may not issue; an operator sets may_issue")
    person = person_of(parameters)
    grant = GrantAuthorized(
        client_id=client.client_id,
        sub=person.sub,
        scope=narrow(parameters.scope, client.rules.scope, REGISTERED),
        audience=audience_of(parameters.resource, client.rules.audiences),
        grant="issue",
        seed=new_seed(),
        acr=person.acr,
        amr=person.amr,
        auth_time=person.auth_time,
    )
    return await open_family(caller, grant, person.nonce)
