"""When the end of the log is looked at again: soon for whoever waits, seldom for nobody."""

import asyncio

import pytest

from projections import progress as progress_module
from projections.progress import Progress


async def test_who_waits_ends_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether he was there before it began, or comes meanwhile."""
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


async def test_nobody_who_waits_is_looked_for_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after somebody has waited: then it is no shorter than for anybody."""
    progress = Progress()
    assert await progress.reach(1, 0) is False
    monkeypatch.setattr(progress_module, "POLL_SECONDS", 3600)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await progress.pause()
    monkeypatch.setattr(progress_module, "POLL_SECONDS", 0)
    await progress.pause()
