"""Families, revocations and incidents, of one person or client or of all, newest first."""

from projections.pagination import PageQuery
from projections.queries.query import Answer, QueryContext
from projections.queries.requests import FamiliesRequest, IncidentListRequest, ListRequest, RevocationListRequest, times
from projections.tables import families as all_families
from projections.tables import incidents as all_incidents
from projections.tables import revocations as all_revocations


def families(context: QueryContext, request: FamiliesRequest) -> Answer:
    """Families that began in the period, as they stand now. Raises `QueryRefused`, `BadCursor`."""
    leeway = (str(request.leeway),) if request.leeway else ()
    page = _page("families", context, request, request.status, *leeway)
    items, cursor = all_families.families(context.db, page, request.status, context.now, request.leeway)
    return {"items": items, "cursor": cursor}


def revocations(context: QueryContext, request: RevocationListRequest) -> Answer:
    """Revocations of families and of single access tokens. Raises `QueryRefused`, `BadCursor`."""
    page = _page("revocations", context, request, request.reason)
    items, cursor = all_revocations.revocations(context.db, page, request.reason)
    return {"items": items, "cursor": cursor}


def incidents(context: QueryContext, request: IncidentListRequest) -> Answer:
    """Detected reuse and forgery, and late duplicates. Raises `QueryRefused`, `BadCursor`."""
    page = _page("incidents", context, request, request.reason)
    items, cursor = all_incidents.incidents(context.db, page, request.reason)
    return {"items": items, "cursor": cursor}


def _page(kind: str, context: QueryContext, request: ListRequest, *filters: str | None) -> PageQuery:
    since, until = times(request)
    return PageQuery(
        kind,
        context.tenant,
        sub=request.sub,
        client_id=request.client_id,
        filters=filters,
        since=since,
        until=until,
        limit=request.limit,
        cursor=request.cursor,
    )
