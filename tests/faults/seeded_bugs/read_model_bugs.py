"""Seeded bugs of the projector and of the read model's writer."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from events.aggregates.commit import digest
from events.log.consumer_reader import Batch
from events.log.direct_reader import _Reader
from events.log.stored_message import StoredMessage
from projections.read_model import ReadModel
from projections.tables import applied
from tests.faults.harness.orders import put


def double_apply() -> None:
    """The writer forgets that it has applied a batch."""
    apply = ReadModel.apply

    def twice(self: ReadModel, commits: Sequence[StoredMessage]) -> None:
        before = self.applied
        apply(self, commits)
        self.applied = before
        apply(self, commits)

    def move(connection: sqlite3.Connection, _applied: int, last: StoredMessage) -> None:
        connection.execute("UPDATE applied SET seq = ?, body = ?", (last.seq, digest(last.body)))

    put(ReadModel, "apply", twice)
    put(applied, "move", move)


def checkpoint_in_its_own_transaction() -> None:
    """The progress is committed before its rows."""
    move = applied.move

    def apart(connection: sqlite3.Connection, *arguments: Any) -> None:
        move(connection, *arguments)
        connection.execute("COMMIT")
        connection.execute("BEGIN")

    put(applied, "move", apart)


def commits_dropped_by_the_reader() -> None:
    """The projector receives only some commits."""
    next_batch = _Reader.next_batch

    async def thinned(self: _Reader) -> Batch | None:
        batch = await next_batch(self)
        return batch and batch._replace(messages=[stored for stored in batch.messages if stored.seq % 7])

    put(_Reader, "next_batch", thinned)
