"""The front page: the last day hour by hour, the newest incidents, and how far the read model is."""

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from heirloom.console.database import NAME

HOURS = 24
NEWEST = 8

SERIES = (
    ("issued", "Issued", "access tokens"),
    ("refreshed", "Refreshed", "refresh tokens redeemed"),
    ("revoked", "Revoked", "families ended"),
    ("reuse", "Reuse", "old or forged tokens shown"),
)
"""Name, title and the counted columns."""

_ACTIVITY = """
SELECT hour, sum(issued) AS issued, sum(refreshed) AS refreshed, sum(revoked) AS revoked, sum(reuse + forged) AS reuse
FROM readable_activity WHERE hour >= ? GROUP BY hour"""
_INCIDENTS = f"""
SELECT * FROM readable_incidents WHERE reason <> 'late_duplicate' ORDER BY seq DESC LIMIT {NEWEST}"""  # noqa: S608  # a number
_REASONS = """
SELECT reason, count(*) AS times FROM (SELECT * FROM readable_revocations ORDER BY seq DESC LIMIT 10000)
WHERE at >= ? AND revoked = 'family' GROUP BY reason ORDER BY times DESC, reason"""  # of a bounded number of rows
_FOREIGN = "SELECT count(*) AS number FROM readable_foreign_messages"
_NEWEST_COMMIT = "SELECT seq, at FROM readable_history ORDER BY seq DESC LIMIT 1"

_WIDTH, _HEIGHT, _GAP = 336, 72, 3


class Bar(NamedTuple):
    """One hour of a chart: its beginning (RFC 3339), the count, and the rectangle that shows it."""

    hour: str
    number: int
    x: float
    y: float
    width: float
    height: float


async def dashboard(request: Request, datasette: Datasette) -> Response:
    """`GET /`."""
    context = await datasette.get_database(NAME).execute_fn(lambda db: look(db, datetime.now(UTC)))
    return Response.html(await datasette.render_template("dashboard.html", context, request=request))


def look(db: sqlite3.Connection, now: datetime) -> dict[str, Any]:
    """The content of the page, all of one moment."""
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    hours = [_rfc3339(first + timedelta(hours=number)) for number in range(HOURS)]
    db.execute("BEGIN")
    try:
        counted = {row["hour"]: row for row in db.execute(_ACTIVITY, (hours[0],))}
        incidents = db.execute(_INCIDENTS).fetchall()
        reasons = db.execute(_REASONS, (hours[0],)).fetchall()
        foreign = db.execute(_FOREIGN).fetchone()["number"]
        newest = db.execute(_NEWEST_COMMIT).fetchone()
        tenants = [row["tenant"] for row in db.execute("SELECT tenant FROM readable_tenants ORDER BY tenant")]
    finally:
        db.execute("ROLLBACK")
    charts = [
        {"name": name, "title": title, "what": what, "bars": bars, "total": sum(bar.number for bar in bars)}
        for name, title, what in SERIES
        if (bars := _bars([(hour, counted[hour][name] if hour in counted else 0) for hour in hours]))
    ]
    return {
        "charts": charts,
        "size": (_WIDTH, _HEIGHT),
        "incidents": incidents,
        "reasons": reasons,
        "since": hours[0],
        "tenants": tenants,
        "foreign": foreign,
        "newest": newest,
        "age": None if newest is None else _age(now - datetime.fromisoformat(newest["at"])),
        "now": _rfc3339(now),
    }


def _bars(counts: list[tuple[str, int]]) -> list[Bar]:
    """The bars, side by side; the highest fills the chart, and none above zero is too low to be seen."""
    highest, step = max(count for _, count in counts), _WIDTH / len(counts)
    bars = []
    for number, (hour, count) in enumerate(counts):
        height = max(_HEIGHT * count / highest, 2) if count else 0
        bars.append(Bar(hour, count, x=number * step, y=_HEIGHT - height, width=step - _GAP, height=height))
    return bars


def _age(age: timedelta) -> str:
    """The age in the largest unit that fits."""
    seconds = max(int(age.total_seconds()), 0)
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= unit:
            count = seconds // unit
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"


def _rfc3339(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
