"""The end of tasks that go on for ever."""

import asyncio
from collections.abc import Iterable
from typing import Any

RETRY_SECONDS = 1.0
"""A task that has not ended so long after it was cancelled has not heard of it, or is slow to leave things in order."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them, until they have ended, however they do.

    Once is not enough: asyncio forgets a cancellation that comes in the same moment as what a `wait_for` was waiting
    for (before Python 3.12), nats-py uses many, and a loop that has not heard of its end goes on for ever.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=RETRY_SECONDS)
        for task in ended:
            _ = task.cancelled() or task.exception()  # whoever wants to know has heard by now
