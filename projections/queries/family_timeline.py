"""The whole life of a family: its present state, and every commit."""

from typing import Any

from projections.pagination import PageQuery, cursor_after, cursor_position
from projections.queries.query import Answer, QueryContext, known_family
from projections.queries.requests import FamilyRequest
from projections.tables import history, incidents, revocations

_EXPLAINING = frozenset({"reason", "cause", "jti", "generation", "current_generation", "presented_by"})


def family(context: QueryContext, request: FamilyRequest) -> Answer:
    """The family as it stands now, and its timeline, oldest first. Raises `QueryRefused`, `BadCursor`."""
    db, limit = context.db, request.limit
    page = PageQuery("family", context.tenant, filters=(request.family_id,), cursor=request.cursor)
    after = cursor_position(page, 1)[0] if request.cursor is not None else 0
    found = known_family(context, request.family_id)
    timeline = history.timeline(db, found["opened_seq"], after, limit + 1)
    cursor = cursor_after(page, (timeline[limit - 1]["seq"],)) if len(timeline) > limit else None
    timeline = timeline[:limit]
    _explain(timeline, incidents.of_family(db, found["opened_seq"]))
    _explain(timeline, revocations.of_family(db, found["opened_seq"]))
    return {**found, "timeline": timeline, "cursor": cursor}


def _explain(timeline: list[dict[str, Any]], details: list[dict[str, Any]]) -> None:
    """Add to each entry what its commit detected or revoked."""
    by_sequence = {detail["seq"]: detail for detail in details}
    for entry in timeline:
        if detail := by_sequence.get(entry["seq"]):
            entry |= {key: value for key, value in detail.items() if key in _EXPLAINING and value is not None}
