"""Endless tasks end, also those that miss a cancellation."""

import asyncio

import pytest

from events import task_cancellation
from events.task_cancellation import end
from heirloom.process.event_loop import run

TIMEOUT_SECONDS = 20


async def _ignoring(times: int) -> None:
    """A loop that ignores this many cancellations."""
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            if not times:
                raise
            times -= 1


async def _failing() -> None:
    try:
        await asyncio.sleep(600)
    finally:
        raise RuntimeError("on its way out")


async def test_a_task_that_missed_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside tasks that are cancelled, fail while ending, or ended before."""
    monkeypatch.setattr(task_cancellation, "RETRY_SECONDS", 0.01)
    tasks = [asyncio.create_task(work) for work in (_ignoring(0), _ignoring(3), _failing(), asyncio.sleep(0))]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await end(tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False, False]
    await end([])


def test_a_process_that_fails_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that ignores cancellations does not keep it."""
    monkeypatch.setattr(task_cancellation, "RETRY_SECONDS", 0.01)

    async def main() -> None:
        ignoring = asyncio.create_task(_ignoring(3))
        await asyncio.sleep(0.01)
        raise RuntimeError(f"{ignoring.done()}")

    with pytest.raises(RuntimeError, match="False"):
        run(main())


async def test_a_task_that_cleans_up_is_not_cancelled_again() -> None:
    """As long as that takes less than a second."""
    left = []

    async def orderly() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.05)
            left.append("in order")

    task = asyncio.create_task(orderly())
    await asyncio.sleep(0)
    await end((task,))
    assert left == ["in order"]
