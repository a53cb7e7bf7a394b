"""`admin.<tenant>.consent.revoke`: a person withdraws the consent to one client."""

import msgspec

from events.aggregates.subject import ConsentWithdrawn
from service.admin.cut_off_once import cut_off_once
from service.context import AdminContext
from service.cut_offs.await_effect import MAX_REASON, known_client
from service.endpoints.end_user import MAX_SUB
from service.request import at_most, decode, required


class ConsentRequest(msgspec.Struct, frozen=True):
    """The person, the client, and a `reason` in the operator's own words."""

    sub: str | None = None
    client_id: str | None = None
    reason: str | None = None


_decoder = msgspec.json.Decoder(ConsentRequest)


async def revoke(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq, revoked_families}`: the person's tokens at the client are void; a new consent begins a new family.

    Raises `invalid_request`, and as `cut_off_once`.
    """
    parameters = decode(body, _decoder)
    sub = required(at_most(parameters.sub, MAX_SUB, "sub"), "sub")
    client_id = required(parameters.client_id, "client_id")
    await known_client(context, tenant, client_id)
    withdrawn = ConsentWithdrawn(sub, client_id, at_most(parameters.reason, MAX_REASON, "reason"))
    return await cut_off_once(context, tenant, withdrawn)
