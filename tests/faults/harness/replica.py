"""A replica that follows a test's orders, with a seeded bug: `python -m tests.faults.harness.replica`."""

import os
import random
from datetime import datetime, timedelta
from typing import Any

from events.log.appender import Appender
from heirloom.process import event_loop
from heirloom.replica import main
from service import clock
from service.families.families import Families
from tests.faults.harness.orders import BUG, obey, orders, put
from tests.faults.seeded_bugs import bugs


def _take_orders() -> None:
    machine, acknowledged, decide = clock.machine, Appender._acknowledged, Families.decide

    def wrong_now() -> datetime:
        return machine() + timedelta(seconds=orders.clock)

    def deaf(*arguments: Any) -> None:
        if random.random() >= orders.deafness:
            acknowledged(*arguments)

    async def dying(*arguments: Any, **options: Any) -> Any:
        concluded = await decide(*arguments, **options)
        if orders.die and concluded.seq:
            os._exit(9)
        return concluded

    put(clock, "machine", wrong_now)
    put(Appender, "_acknowledged", deaf)
    put(Families, "decide", dying)


if __name__ == "__main__":
    obey()
    if name := os.environ.get(BUG):
        bugs.switch_on(name, "replica")
    _take_orders()
    event_loop.run(main())
