"""When the end of the log is polled again: at once for a waiting query, otherwise seldom."""

import asyncio

import pytest

from projections import progress as progress_module
from projections.progress import Progress


async def test_a_waiting_query_ends_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it waited before the pause began, or comes during it."""
    monkeypatch.setattr(progress_module, "POLL_SECONDS", 3600)
    progress = Progress()
    pause = asyncio.create_task(progress.pause())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(progress.reach(1, 3600))
    async with asyncio.timeout(20):
        await pause
        await progress.pause()
    progress.advance(1)
    assert await waiting


async def test_without_a_waiting_query_the_pause_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after an earlier query has stopped waiting."""
    progress = Progress()
    assert await progress.reach(1, 0) is False
    monkeypatch.setattr(progress_module, "POLL_SECONDS", 3600)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await progress.pause()
    monkeypatch.setattr(progress_module, "POLL_SECONDS", 0)
    await progress.pause()
