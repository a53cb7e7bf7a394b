"""A projector whose writer is the test's own: `python -m tests.faults.harness.projector`."""

import os
from typing import Any

from events.worker.parent import Pipe
from heirloom.process import event_loop
from heirloom.projector import main
from tests.faults.harness.orders import BUG, put
from tests.faults.seeded_bugs import bugs


def _use_own_writer() -> None:
    start = Pipe.start

    async def started(module: str, *arguments: str) -> Any:
        return await start(
            module.replace("projections.projector.writer_process", "tests.faults.harness.writer"), *arguments
        )

    put(Pipe, "start", started)


if __name__ == "__main__":
    if name := os.environ.get(BUG):
        bugs.switch_on(name, "projector")
    _use_own_writer()
    event_loop.run(main())
