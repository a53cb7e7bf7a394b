"""Opaque access tokens: a reference to the commit that issued them, authenticated like every token (ADR 0003).

The number in a `hat_` token is the commit's sequence in the log, so nothing else is stored about the token.
"""

from events.aggregates import aggregate_names
from events.aggregates.commit import Commit, UnreadableCommit
from events.aggregates.family import AccessToken, FamilyState
from events.aggregates.family_events import FamilyEvent, TokenIssued
from service.access_tokens.issued_token import Exchanged, IssuedToken
from service.context import Context
from service.errors import OAuthError
from service.registry.tenant import Tenant


async def recognise_opaque(context: Context, tenant: Tenant, token: str) -> IssuedToken | None:
    """The token as its commit describes it; None if this service has not made it. Raises `Unavailable`."""
    presented = tenant.opaque_tokens.recognise(token)
    if presented is None:
        return None
    commit = await _commit(context, tenant, presented.family_id, presented.number)
    if commit is None or not tenant.opaque_tokens.is_minted_for(presented, commit.state.seed):
        return None
    for event in commit.events:
        if isinstance(event, TokenIssued) and event.kind == "access" and event.jti is not None:
            access = AccessToken(event.jti, event.scope, event.audience, commit.at, event.expires_at)
            holder = event.client_id or commit.state.client_id
            exchanged = Exchanged(event.act, event.exchanged_from)
            return IssuedToken(presented.family_id, commit.state, access, holder, exchanged)
    return None


async def sequence_of(context: Context, tenant: Tenant, family_id: str, jti: str) -> int:
    """The sequence of the family's commit that issued `jti`, which is that commit's id. Raises `Unavailable`."""
    last = (await context.log.head(aggregate_names.family(tenant.name, family_id))).stored
    seq = last.seq if last is not None else 0
    while seq:
        commit = await _commit(context, tenant, family_id, seq)
        if commit is None or commit.id == jti:
            break
        seq = commit.prev_seq
    if not seq:
        raise OAuthError("server_error", "the commit that issued the token is not in the log")
    return seq


async def _commit(
    context: Context, tenant: Tenant, family_id: str, seq: int
) -> Commit[FamilyEvent, FamilyState] | None:
    try:
        return await context.log.commit_at(aggregate_names.family(tenant.name, family_id), seq)
    except UnreadableCommit:
        return None
