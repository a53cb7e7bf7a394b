"""A projector with the test's own writer: `python -m tests.faults.harness.projector`."""

import os

from heirloom.process import event_loop
from heirloom.projector import main
from projections.projector import writer_process
from tests.faults.harness.orders import BUG, put
from tests.faults.seeded_bugs import bugs


def _use_own_writer() -> None:
    put(writer_process, "MODULE", "tests.faults.harness.writer")


if __name__ == "__main__":
    if name := os.environ.get(BUG):
        bugs.switch_on(name, "projector")
    _use_own_writer()
    event_loop.run(main())
