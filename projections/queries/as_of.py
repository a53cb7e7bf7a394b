"""The state of a family, of a person's families or of a tenant's at an earlier time or sequence."""

from projections.decoded_commit import microseconds
from projections.pagination import Condition, PageQuery, select_page
from projections.queries.asked_moment import asked_seq, asked_time
from projections.queries.family_state import PointInTime, after_commit, state_at
from projections.queries.query import Answer, QueryContext
from projections.queries.requests import AsOfRequest, QueryRefused
from projections.tables import applied, families


def as_of(context: QueryContext, request: AsOfRequest) -> Answer:
    """The state of one family, or a page of those that had begun, newest first. Raises `QueryRefused`, `BadCursor`."""
    point = _point(context, request)
    return _families(context, request, point) if request.family_id is None else _family(context, request, point)


def _family(context: QueryContext, request: AsOfRequest, point: PointInTime) -> Answer:
    if request.sub is not None:
        raise QueryRefused("invalid_request", "ask by family_id or by sub")
    family = families.find(context.db, context.tenant, request.family_id or "", context.now)
    state = state_at(context.db, family, point) if family is not None else None
    if state is None:
        raise QueryRefused("invalid_request", "there was no such family then")
    return state


def _families(context: QueryContext, request: AsOfRequest, point: PointInTime) -> Answer:
    db = context.db
    bounds = (str(request.seq), None if request.at is None else str(microseconds(request.at)))
    page = PageQuery("as_of", context.tenant, request.sub, filters=bounds, limit=request.limit, cursor=request.cursor)
    begun: Condition = (f"f.{point.column} <= ?", (point.value,))
    if point.column == "at":
        rows, cursor = select_page(db, families.SOURCE, page, [begun])
    elif request.sub is None:
        rows, cursor = select_page(db, families.SOURCE._replace(order=("seq",)), page, [begun])
    else:
        # A person's rows are indexed by time: the plus keeps SQLite from another index.
        rows, cursor = select_page(db, families.SOURCE, page, filters=[("+f.seq <= ?", (point.value,))])
    states = [state_at(db, families.item(row, context.now), point) for row in rows]
    return {"items": [state for state in states if state is not None], "cursor": cursor}


def _point(context: QueryContext, request: AsOfRequest) -> PointInTime:
    if request.seq is None:
        at = asked_time(context, request.at)
        return PointInTime("at", at, at)
    if request.at is not None:
        raise QueryRefused("invalid_request", "ask by at or by seq")
    return after_commit(context.db, asked_seq(request.seq, applied.load(context.db)[0]), context.now)
