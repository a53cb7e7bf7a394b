"""Tasks that go on for ever end, whether they hear of it at once or not."""

import asyncio

import pytest

from events import task_cancellation
from events.task_cancellation import end
from heirloom.process.event_loop import run

PATIENCE_SECONDS = 20


async def _deaf(times: int) -> None:
    """A loop that loses so many cancellations."""
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


async def test_whoever_has_not_heard_of_its_end_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, beside those that hear of it, fail on their way out, or have ended long ago."""
    monkeypatch.setattr(task_cancellation, "RETRY_SECONDS", 0.01)
    tasks = [asyncio.create_task(work) for work in (_deaf(0), _deaf(3), _failing(), asyncio.sleep(0))]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await end(tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False, False]
    await end([])


def test_a_process_that_fails_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has not heard of it does not keep it."""
    monkeypatch.setattr(task_cancellation, "RETRY_SECONDS", 0.01)

    async def main() -> None:
        deaf = asyncio.create_task(_deaf(3))
        await asyncio.sleep(0.01)
        raise RuntimeError(f"{deaf.done()}")

    with pytest.raises(RuntimeError, match="False"):
        run(main())


async def test_whoever_leaves_things_in_order_is_not_disturbed() -> None:
    """As long as it takes no longer than a second."""
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
