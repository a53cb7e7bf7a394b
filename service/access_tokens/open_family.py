"""Opening a family whose first tokens are given at once."""

from datetime import datetime
from functools import partial

from events.aggregates.family import FamilyState
from service.access_tokens.token_response import token_response
from service.context import Context
from service.decide.decision import Decision
from service.decide.issue import Issue, issue
from service.keys.mac_tokens import new_id, new_seed
from service.registry.registry import Client, Tenant


async def open_family(
    context: Context,
    tenant: Tenant,
    client: Client,
    actor: str,
    command: "partial[Issue]",
    *,
    nonce: str | None = None,
    with_id_token: bool = True,
) -> bytes:
    """Decide the issue (`command` lacks what is fresh), write it, and give the token response."""
    family_id, seed = new_id(), new_seed()

    def decide(state: FamilyState | None, now: datetime, commit_id: str) -> Decision:
        return issue(state, command(now=now, jti=commit_id, seed=seed, key=tenant.mac_key))

    concluded = await context.families.decide(tenant.name, family_id, actor, decide, new=True)
    return await token_response(context, tenant, client, family_id, concluded, nonce=nonce, with_id_token=with_id_token)
