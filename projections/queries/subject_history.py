"""Everything ever issued for one person: what they may request under GDPR Article 15."""

from projections.pagination import NAMED, PageQuery, cursor_after, cursor_position
from projections.queries.query import Answer, QueryContext
from projections.queries.requests import SubjectHistoryRequest
from projections.tables import cut_offs, history

_MAX_CUT_OFFS = 1000
_SELECT = history.SELECT.replace("SELECT ", "SELECT f.family_id, f.at AS began, client.text AS client_id, ", 1)
_COMMITS = f"""{_SELECT}
JOIN families AS f ON f.seq = h.family
JOIN names AS client ON client.id = f.client
WHERE f.tenant = {NAMED} AND f.sub = ? AND f.at >= ? AND (f.at, f.seq, h.seq) > (?, ?, ?)
ORDER BY f.at, f.seq, h.seq LIMIT ?
"""


def subject(context: QueryContext, request: SubjectHistoryRequest) -> Answer:
    """The commits of the person's families, family by family, oldest first; `cut_offs` newest first, on the first page.

    An unknown person has none. Raises `BadCursor`.
    """
    db, tenant, sub, limit = context.db, context.tenant, request.sub, request.limit
    page = PageQuery("subject", tenant, sub, cursor=request.cursor)
    after = cursor_position(page, 3) if request.cursor is not None else (0, 0, 0)
    rows = db.execute(_COMMITS, (tenant, sub, after[0], *after, limit + 1)).fetchall()
    cursor = None
    if len(rows) > limit:
        rows = rows[:limit]
        cursor = cursor_after(page, (rows[-1]["began"], rows[-1]["family"], rows[-1]["seq"]))
    items = [{"family_id": row["family_id"], "client_id": row["client_id"]} | history.entry(row) for row in rows]
    orders = cut_offs.of_subject(db, tenant, sub, _MAX_CUT_OFFS) if request.cursor is None else []
    return {"sub": sub, "cut_offs": orders, "items": items, "cursor": cursor}
