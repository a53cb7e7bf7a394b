"""Cancels tasks reliably."""

import asyncio
from collections.abc import Iterable
from typing import Any

RETRY_SECONDS = 1.0
"""A task that has not ended so long after its cancellation is cancelled again. It lost the cancellation, or is slow."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks again and again until all have ended, in whatever way.

    Once is not enough: before Python 3.12, asyncio loses a cancellation that arrives in the same moment as the result
    of a `wait_for`. nats-py uses many, and a loop that lost its cancellation would go on for ever.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=RETRY_SECONDS)
        for task in ended:
            _ = (
                task.cancelled() or task.exception()
            )  # retrieved, so that asyncio does not log it; callers that care have read it
