"""A message of a stream, for readers that need no connection."""

from datetime import datetime

import msgspec


class StoredMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message of a stream: its sequence, its subject and its body, in the log mostly a commit's JSON.

    `events.log.grammar` distinguishes commits from foreign messages. `stored_at` is when the broker stored it, by the
    broker's clock; None if that is not known.
    """

    seq: int
    subject: str
    body: bytes
    stored_at: datetime | None = None
