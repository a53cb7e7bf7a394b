"""`admin.<tenant>.family.revoke`: an operator ends a family."""

from datetime import datetime

import msgspec

from events.aggregates import aggregate_names
from service.admin import replies
from service.admin.parameters import reason_of
from service.context import AdminContext
from service.decide.decision import Decision
from service.decide.revocation import Revoke, revoke
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.request import decode, required


class FamilyRevokeRequest(msgspec.Struct, frozen=True):
    """The family, and a `reason` in the operator's own words, which becomes the revocation's cause."""

    family_id: str | None = None
    reason: str | None = None


_decoder = msgspec.json.Decoder(FamilyRevokeRequest)


async def revoke_family(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq, revoked_families}`: 1, or 0 if the family was dead already.

    Raises `invalid_request` if there is no such family, and `Unavailable`.
    """
    parameters = decode(body, _decoder)
    family_id = required(parameters.family_id, "family_id")
    if not aggregate_names.FAMILY_ID.fullmatch(family_id):
        raise OAuthError("invalid_request", "family_id is not one of this service's")
    cause = reason_of(parameters.reason) or "revocation by an operator"

    def decide(loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
        state = loaded.state
        if state is None:
            raise OAuthError("invalid_request", "there is no such family")
        return revoke(state, Revoke("operator", cause))

    committed = await context.families.decide(tenant, family_id, "operator", decide)
    if committed.seq:
        return msgspec.json.encode(replies.CutOff(committed.seq, 1))
    family = await context.families.load(tenant, family_id)
    return msgspec.json.encode(replies.CutOff(family.seq, 0))
