"""What `heirloom up` has going on beside its processes: told of when it ends, and not put off by a rotated file."""

import asyncio
import logging
from pathlib import Path

import pytest

from heirloom import up
from heirloom.child import Child
from heirloom.room import FAILED, Store


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
