"""Opening a family whose first tokens are given at once."""

from datetime import datetime
from functools import partial

from events.family import FamilyState
from service.context import Context
from service.decide.issue import Issue, issue
from service.decide.outcome import Decision
from service.registry import Client, Tenant
from service.response import token_response
from service.tokens import new_id, new_seed


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
