"""The process that writes the read model, fed through a pipe by `feed`.

It is started by `python -m projections.projector.writer_process FILE`.
"""

import sqlite3
import sys
from pathlib import Path

import msgspec

from events.log.grammar import Foreign
from events.log.stored_message import StoredMessage
from events.worker.child import serve
from projections.read_model import Halted, ReadModel, UnusableReadModel

MODULE = "projections.projector.writer_process"
"""The name by which `run_worker` starts it."""


class Outcome(msgspec.Struct, omit_defaults=True):
    """How far the read model is after a batch, and what stops it there, if anything.

    `halted`: at a commit; `unwritable`: the file cannot be written now; `damaged`: the file is. `foreign` are the
    messages that were stepped over.
    """

    applied: int
    halted: str | None = None
    unwritable: str | None = None
    damaged: str | None = None
    foreign: tuple[Foreign, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing stops it."""
        return self.halted is None and self.unwritable is None and self.damaged is None


def apply(model: ReadModel, commits: list[StoredMessage]) -> Outcome:
    """Apply a batch; returns the outcome, whatever it is."""
    try:
        model.apply(commits)
    except Halted as halted:
        return Outcome(model.applied, halted=str(halted))
    except sqlite3.OperationalError as error:
        return Outcome(model.applied, unwritable=str(error))
    except sqlite3.DatabaseError as error:
        return Outcome(model.applied, damaged=str(error))
    found, model.skipped = tuple(model.skipped), []
    return Outcome(model.applied, foreign=found)


def main() -> None:
    """Serve batches until the input ends."""
    try:
        model = ReadModel(Path(sys.argv[1]))
    except UnusableReadModel as unusable:
        sys.exit(f"heirloom: {sys.argv[1]}: {unusable}")
    serve(lambda commits: msgspec.json.encode(apply(model, commits)))
    model.close()


if __name__ == "__main__":
    main()
