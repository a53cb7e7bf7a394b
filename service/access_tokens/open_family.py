"""Opening a family whose first tokens are issued at once."""

from datetime import datetime

from events.aggregates.family_events import GrantAuthorized
from service.access_tokens.token_response import token_response
from service.context import Caller
from service.decide.decision import Decision
from service.decide.issue import Issue, issue
from service.families.cache import LoadedFamily
from service.keys.mac_tokens import new_id


async def open_family(caller: Caller, grant: GrantAuthorized, nonce: str | None = None) -> bytes:
    """Append a family that begins with `grant`, for the caller, and return the token response.

    Raises `invalid_request` for a grant that is too large, `invalid_grant` for a blocked person, and `Unavailable`.
    """

    def decide(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
        return issue(loaded.state, Issue(now, caller.client.rules, grant, commit_id, caller.tenant.mac_key))

    families = caller.context.families
    committed = await families.decide(caller.tenant.name, new_id(), caller.actor, decide, new=True)
    return await token_response(caller, committed, nonce=nonce)
