"""Opening a family whose first tokens are issued at once."""

from datetime import datetime

from events.aggregates.family import FamilyState, GrantAuthorized
from service.access_tokens.token_response import token_response
from service.context import Context
from service.decide.decision import Decision
from service.decide.issue import Issue, issue
from service.keys.mac_tokens import new_id
from service.registry.tenant import Client, Tenant


async def open_family(
    context: Context, tenant: Tenant, client: Client, actor: str, grant: GrantAuthorized, nonce: str | None = None
) -> bytes:
    """Append a family that begins with `grant`, for `client`, and return the token response.

    Raises `invalid_request` for a grant that is too large, `invalid_grant` for a blocked person, and `Unavailable`.
    """

    def decide(state: FamilyState | None, now: datetime, commit_id: str) -> Decision:
        return issue(state, Issue(now, client.rules, grant, commit_id, tenant.mac_key))

    committed = await context.families.decide(tenant.name, new_id(), actor, decide, new=True)
    return await token_response(context, tenant, client, committed, nonce=nonce)
