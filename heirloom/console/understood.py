"""What a canned query was asked, understood before it is answered: a slip of the pen must not read as an all-clear.

`since` may be written as on the command line, in UTC. A tenant or reason that does not exist is an error.
"""

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, get_args

from datasette.utils.asgi import Base400

from events.aggregates.family_events import RevocationReason
from heirloom.console.canned_queries import QUERIES
from heirloom.time_text import NoTime, parse_time

_CANNED = {query["sql"] for query in QUERIES.values()}
_TENANT = "SELECT 1 FROM readable_tenants WHERE tenant = ?"


class NotUnderstood(Base400):  # type: ignore[misc]  # Datasette ships no types
    """A parameter means nothing; the message says which, and what would do."""


def is_canned(sql: str) -> bool:
    """Whether this is the text of a canned query."""
    return sql in _CANNED


def understood(db: sqlite3.Connection, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The parameters of a canned query, with `since` as the log writes times. Raises `NotUnderstood`."""
    known = get_args(RevocationReason)
    if (given.get("reason") or known[0]) not in known:
        raise NotUnderstood(f"There is no such reason. These are all: {', '.join(known)}.")
    if (tenant := given.get("tenant")) and db.execute(_TENANT, (tenant,)).fetchone() is None:
        raise NotUnderstood("There is no tenant of that name here.")
    return {**given, "since": _since(given["since"], now)} if given.get("since") else dict(given)


def _since(text: str, now: datetime) -> str:
    try:
        since = parse_time(text, now, UTC)
    except NoTime as error:
        raise NotUnderstood(f"Since: {error}.") from error
    if since > now:
        raise NotUnderstood(f"Since: {text} is still to come.")
    return since.isoformat(timespec="microseconds").replace("+00:00", "Z")
