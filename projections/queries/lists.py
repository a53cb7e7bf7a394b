"""Families, revocations and incidents, of one person or client or of all, newest first."""

import sqlite3
from typing import Any

from projections.pagination import Page
from projections.queries.requests import FamiliesRequest, ListRequest, ReasonRequest, times
from projections.tables import families as all_families
from projections.tables import incidents as all_incidents
from projections.tables import revocations as all_revocations

Answer = dict[str, Any]


def families(db: sqlite3.Connection, tenant: str, request: FamiliesRequest, limit: int, now: int) -> Answer:
    """Those that began within the request's times, as they stand `now`. Raises `Refused`, `BadCursor`."""
    leeway = (str(request.leeway),) if request.leeway else ()
    page = _page("families", tenant, request, limit, request.status, *leeway)
    items, cursor = all_families.families(db, page, request.status, now, request.leeway)
    return {"items": items, "cursor": cursor}


def revocations(db: sqlite3.Connection, tenant: str, request: ReasonRequest, limit: int, _now: int) -> Answer:
    """Of families and of single tokens. Raises as `families`."""
    page = _page("revocations", tenant, request, limit, request.reason)
    items, cursor = all_revocations.revocations(db, page, request.reason)
    return {"items": items, "cursor": cursor}


def incidents(db: sqlite3.Connection, tenant: str, request: ReasonRequest, limit: int, _now: int) -> Answer:
    """Reuse and forgery. Raises as `families`."""
    page = _page("incidents", tenant, request, limit, request.reason)
    items, cursor = all_incidents.incidents(db, page, request.reason)
    return {"items": items, "cursor": cursor}


def _page(kind: str, tenant: str, request: ListRequest, limit: int, *filters: str | None) -> Page:
    since, until = times(request)
    return Page(kind, tenant, request.sub, request.client_id, filters, since, until, limit, request.cursor)
