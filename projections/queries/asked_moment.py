"""The time or sequence that a query names, checked: the log must know something of it."""

from datetime import datetime

from projections.decoded_commit import microseconds, moment
from projections.queries.query import QueryContext
from projections.queries.requests import QueryRefused

_FIRST_FAMILY = "SELECT min(at) FROM families WHERE tenant = (SELECT id FROM names WHERE text = ?)"


def asked_time(context: QueryContext, at: datetime | None) -> int:
    """The time in microseconds, by default now. Raises `QueryRefused` before the tenant's first family or after now."""
    if at is None:
        return context.now
    requested = past_time(at, context.now)
    begun = context.db.execute(_FIRST_FAMILY, (context.tenant,)).fetchone()[0]
    if begun is None:
        raise QueryRefused("invalid_request", "the log holds no family of this tenant")
    if requested < begun:
        raise QueryRefused("invalid_request", f"the first family of this tenant began at {moment(begun).isoformat()}")
    return requested


def past_time(at: datetime | None, now: int) -> int:
    """The time in microseconds, by default `now`. Raises `QueryRefused` after `now`."""
    requested = now if at is None else microseconds(at)
    if requested > now:
        raise QueryRefused("invalid_request", "that time is in the future")
    return requested


def asked_seq(seq: int, applied: int) -> int:
    """The sequence itself. Raises `QueryRefused` for one that the read model has not applied."""
    if not 0 < seq <= applied:
        raise QueryRefused("invalid_request", f"the log's sequences are 1 to {applied} now")
    return seq
