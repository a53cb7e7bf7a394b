"""A projector whose writer is the test's own: `python -m tests.faults.projector`."""

import os
from typing import Any

from events.pipe import Pipe
from heirloom import process
from heirloom.projector import main
from tests.faults import bugs
from tests.faults.orders import BUG, put


def _use_own_writer() -> None:
    start = Pipe.start

    async def started(module: str, *arguments: str) -> Any:
        return await start(module.replace("projections.writer", "tests.faults.writer"), *arguments)

    put(Pipe, "start", started)


if __name__ == "__main__":
    if name := os.environ.get(BUG):
        bugs.switch_on(name, "projector")
    _use_own_writer()
    process.run(main())
