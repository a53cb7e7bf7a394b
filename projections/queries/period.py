"""Questions about a time: how much happened, and where some words were said."""

import sqlite3
from typing import Any

from projections.pagination import Page
from projections.queries.requests import PeriodRequest, Refused, SearchRequest, times
from projections.tables import activity as hours
from projections.tables import search_index


def activity(db: sqlite3.Connection, tenant: str, request: PeriodRequest, limit: int, _now: int) -> dict[str, Any]:
    """Counts of each hour that the period touches, as a whole, newest first. Raises `Refused`, `BadCursor`."""
    page = _page("activity", tenant, request, limit)
    if page.since is not None:
        page = page._replace(since=page.since - page.since % hours.HOUR)
    items, cursor = hours.activity(db, page)
    return {"items": items, "cursor": cursor}


def search(db: sqlite3.Connection, tenant: str, request: SearchRequest, limit: int, _now: int) -> dict[str, Any]:
    """Revocations, incidents and cut-offs of the period with all the words, newest first. Raises as `activity`."""
    wanted = search_index.words_of(request.text)
    if not wanted:
        raise Refused("invalid_request", "there is no word in the text to search for")
    page = _page("search", tenant, request, limit, " ".join(wanted))
    items, cursor = search_index.search(db, page, wanted)
    return {"items": items, "cursor": cursor}


def _page(kind: str, tenant: str, request: PeriodRequest, limit: int, text: str | None = None) -> Page:
    since, until = times(request)
    return Page(kind, tenant, filters=(text,), since=since, until=until, limit=limit, cursor=request.cursor)
