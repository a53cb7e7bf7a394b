"""Queries about a period: counts by the hour, and the commits that contain some words."""

from projections.pagination import PageQuery
from projections.queries.query import Answer, QueryContext
from projections.queries.requests import PeriodRequest, QueryRefused, SearchRequest, times
from projections.tables import activity as hours
from projections.tables import search_index


def activity(context: QueryContext, request: PeriodRequest) -> Answer:
    """The counts of every hour that the period touches, newest first. Raises `QueryRefused`, `BadCursor`."""
    page = _page("activity", context, request)
    if page.since is not None:
        page = page._replace(since=page.since - page.since % hours.HOUR)
    items, cursor = hours.activity(context.db, page)
    return {"items": items, "cursor": cursor}


def search(context: QueryContext, request: SearchRequest) -> Answer:
    """Revocations, incidents and cut-offs with all the words, newest first. Raises `QueryRefused`, `BadCursor`."""
    words = search_index.words_of(request.text)
    if not words:
        raise QueryRefused("invalid_request", "there is no word in the text to search for")
    page = _page("search", context, request, " ".join(words))
    items, cursor = search_index.search(context.db, page, words)
    return {"items": items, "cursor": cursor}


def _page(kind: str, context: QueryContext, request: PeriodRequest, text: str | None = None) -> PageQuery:
    since, until = times(request)
    filters, limit, cursor = (text,), request.limit, request.cursor
    return PageQuery(kind, context.tenant, filters=filters, since=since, until=until, limit=limit, cursor=cursor)
