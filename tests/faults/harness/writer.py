"""A writer of the read model that dies between its progress and its rows, once a file orders it."""

import os
import sqlite3
from pathlib import Path

from events.log.stored_message import StoredMessage
from projections.projector.writer_process import main
from projections.tables import applied
from tests.faults.harness.orders import BUG, FILE, put
from tests.faults.seeded_bugs import bugs


def _may_die() -> None:
    move, order = applied.move, Path(os.environ[FILE])

    def dying(connection: sqlite3.Connection, before: int, last: StoredMessage) -> None:
        move(connection, before, last)
        if order.exists() and ".family." in last.subject:  # a batch of settings alone has no rows to lose
            order.unlink()
            os._exit(9)

    put(applied, "move", dying)


if __name__ == "__main__":
    if name := os.environ.get(BUG):
        bugs.switch_on(name, "writer")
    _may_die()
    main()
