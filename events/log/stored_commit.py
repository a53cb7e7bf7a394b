"""A commit as it lies in the log; whoever only reads such has no need of a connection."""

from datetime import datetime

import msgspec


class Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`seq` is its stream sequence, `body` the commit's JSON (`events.aggregates.commit`).

    `stored_at` is when the broker stored it, by the broker's clock; None where that is not known.
    """

    seq: int
    subject: str
    body: bytes
    stored_at: datetime | None = None
