"""Background tasks are waited for and cancelled, and their failures are logged."""

import asyncio
import logging

import pytest

from events.task_set import TaskSet

TIMEOUT_SECONDS = 20


async def _fail() -> None:
    raise RuntimeError("nobody awaits this")


async def test_a_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback; a task that ends or is cancelled logs nothing."""
    tasks = TaskSet()
    tasks.start(_fail())
    tasks.start(asyncio.sleep(0))
    tasks.start(asyncio.sleep(600))
    with caplog.at_level(logging.ERROR):
        await asyncio.sleep(0.01)
        await tasks.cancel()
    (record,) = caplog.records
    assert record.name == "heirloom.tasks" and record.exc_info is not None
    assert str(record.exc_info[1]) == "nobody awaits this"


async def test_running_tasks_are_held_and_counted() -> None:
    """An empty set settles and is cancelled at once."""
    tasks, free = TaskSet(), asyncio.Event()
    await tasks.settled()
    await tasks.cancel()
    for _ in range(3):
        tasks.start(free.wait())
    assert len(tasks) == 3
    free.set()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await tasks.settled()
    assert not tasks


async def test_settling_waits_for_the_running_tasks() -> None:
    """Not for those started meanwhile."""
    tasks, first, second = TaskSet(), asyncio.Event(), asyncio.Event()
    tasks.start(first.wait())
    settling = asyncio.create_task(tasks.settled())
    await asyncio.sleep(0)
    tasks.start(second.wait())
    first.set()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await settling
    assert len(tasks) == 1
    await tasks.cancel()
    assert not tasks
