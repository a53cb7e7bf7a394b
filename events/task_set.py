"""Background tasks with an owner, which can wait for them and cancel them; no failure is lost."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from events.task_cancellation import end

log = logging.getLogger("heirloom.tasks")


class TaskSet:
    """Starts tasks and holds them until they end: `len` counts them. A task that fails is logged as an error.

    asyncio has only a weak reference to a running task, and reports a failure only when the task is garbage-collected.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Run `work` in the background."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def settled(self) -> None:
        """Return when the tasks that run now have ended. Tasks that are started meanwhile may still run."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def cancel(self) -> None:
        """Cancel the tasks that run now, and return when they have ended."""
        await end(self._tasks)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed", exc_info=error)
