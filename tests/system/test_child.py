"""A process of `heirloom up` that is stopped while it is being started again, and what is said when a keeper ends."""

import asyncio
import logging
import os
import sys
from pathlib import Path

import pytest

from heirloom import up
from heirloom.child import Child
from heirloom.room import FAILED, Store

PATIENCE_SECONDS = 20
READY_ONCE = """
import sys, time
from pathlib import Path
mark = Path(sys.argv[1])
if not mark.exists():
    mark.touch()
    print("ready", flush=True)
time.sleep(600)
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_one_that_is_stopped_while_it_starts_again_leaves_nobody(tmp_path: Path) -> None:
    """The second process never says that it is ready; nobody else would end it."""
    file = tmp_path / "pid"
    child = Child("it", [sys.executable, "-c", READY_ONCE, str(tmp_path / "mark")], dict(os.environ), pid_file=file)
    await child.start()
    first = file.read_text()
    os.kill(int(first), 9)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while file.read_text() in (first, ""):
            await asyncio.sleep(0.01)
    assert is_there(int(file.read_text()))
    await child.stop(PATIENCE_SECONDS)
    assert not is_there(int(file.read_text())) and not child.is_running


async def test_the_end_of_a_keeper_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The service goes on without it, and says so; being cancelled is no such end."""

    async def fail() -> None:
        raise RuntimeError("nobody thought of this")

    ended = asyncio.create_task(fail(), name="keeping something")
    cancelled = asyncio.create_task(asyncio.sleep(600))
    cancelled.cancel()
    with caplog.at_level(logging.ERROR):
        for task in (ended, cancelled):
            task.add_done_callback(up._told)
        await asyncio.gather(ended, cancelled, return_exceptions=True)
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == [
        "keeping something has ended; start heirloom up again to have it back"
    ]
    assert "nobody thought of this" in caplog.text


def test_a_brokers_words_may_be_taken_away_or_cut_short(tmp_path: Path) -> None:
    """Whoever keeps room reads on in what there is."""
    words = tmp_path / "nats.log"
    words.write_bytes(b"ready, and a long line more\n")
    store = Store(Child("the broker", [], {}), words)
    words.unlink()
    assert not store.has_failed()
    words.write_bytes(b"a new one: " + b"ready, " * 10)
    assert not store.has_failed()
    words.write_bytes(FAILED)  # shorter than before: somebody has begun it anew
    assert store.has_failed()
    words.write_bytes(b"")
    assert store.has_failed(), "what was said once is not forgotten"
