"""Which moment is asked about: one at which there was something to tell of."""

import sqlite3
from datetime import datetime

from projections.decoded_commit import microseconds, moment
from projections.queries.requests import Refused

_BEGUN = "SELECT min(at) FROM families WHERE tenant = (SELECT id FROM names WHERE text = ?)"


def asked_time(db: sqlite3.Connection, tenant: str, at: datetime | None, now: int) -> int:
    """In microseconds, `now` if nothing is asked. Raises `Refused` for the future and for before the first family."""
    if at is None:
        return now
    asked = past_time(at, now)
    begun = db.execute(_BEGUN, (tenant,)).fetchone()[0]
    if begun is None:
        raise Refused("invalid_request", "the log holds no family of this tenant")
    if asked < begun:
        raise Refused("invalid_request", f"the first family of this tenant began at {moment(begun).isoformat()}")
    return asked


def past_time(at: datetime | None, now: int) -> int:
    """In microseconds, `now` if nothing is asked. Raises `Refused` for the future alone."""
    asked = now if at is None else microseconds(at)
    if asked > now:
        raise Refused("invalid_request", "that time is in the future")
    return asked


def asked_seq(seq: int, applied: int) -> int:
    """The sequence itself. Raises `Refused` for one that is not applied yet."""
    if not 0 < seq <= applied:
        raise Refused("invalid_request", f"the log's sequences are 1 to {applied} now")
    return seq
