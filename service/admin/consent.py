"""`admin.<tenant>.consent.revoke`: a person withdraws the consent to one client."""

import msgspec

from events.aggregates.subject import ConsentWithdrawn
from service.admin.cut_off_once import cut_off_once
from service.admin.parameters import known_client, reason_of, sub_of
from service.context import AdminContext
from service.request import decode, required


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
    sub = sub_of(parameters.sub)
    client_id = required(parameters.client_id, "client_id")
    await known_client(context, tenant, client_id)
    withdrawn = ConsentWithdrawn(sub, client_id, reason_of(parameters.reason))
    return await cut_off_once(context, tenant, withdrawn)
