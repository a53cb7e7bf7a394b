"""The whole life of a family: how it stands, and what happened to it, commit by commit."""

import sqlite3
from typing import Any

from projections.pagination import Page, cursor_after, position
from projections.queries.requests import FamilyRequest, Refused
from projections.tables import families, history, incidents, revocations

_EXPLAINS = frozenset({"reason", "cause", "jti", "generation", "current_generation", "presented_by"})


def family(db: sqlite3.Connection, tenant: str, request: FamilyRequest, limit: int, now: int) -> dict[str, Any]:
    """As it stands `now` (microseconds), and its timeline, oldest first. Raises `Refused`, `BadCursor`."""
    question = Page("family", tenant, filters=(request.family_id,), cursor=request.cursor)
    after = position(question, 1)[0] if request.cursor is not None else 0
    found = families.find(db, tenant, request.family_id, now)
    if found is None:
        raise Refused("invalid_request", "there is no such family")
    timeline = history.timeline(db, found["opened_seq"], after, limit + 1)
    cursor = cursor_after(question, (timeline[limit - 1]["seq"],)) if len(timeline) > limit else None
    timeline = timeline[:limit]
    _explain(timeline, incidents.of_family(db, found["opened_seq"]))
    _explain(timeline, revocations.of_family(db, found["opened_seq"]))
    return {**found, "timeline": timeline, "cursor": cursor}


def _explain(timeline: list[dict[str, Any]], details: list[dict[str, Any]]) -> None:
    """Tell with each entry what its commit detected or revoked."""
    by_sequence = {detail["seq"]: detail for detail in details}
    for entry in timeline:
        if detail := by_sequence.get(entry["seq"]):
            entry |= {key: value for key, value in detail.items() if key in _EXPLAINS and value is not None}
