"""The background tasks of `heirloom up`: their end is reported, and rotated files and old state do not mislead them."""

import asyncio
import itertools
import logging
from pathlib import Path

import pytest

from heirloom.broker import disk_space
from heirloom.broker.disk_space import FAILED, Store, keep_room
from heirloom.process.child_process import Child, Program
from heirloom.supervisor import supervisor


async def test_the_failure_of_a_background_task_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The service goes on without it; a cancelled task is not logged."""

    async def fail() -> None:
        raise RuntimeError("nobody thought of this")

    ended = asyncio.create_task(fail(), name="keeping something")
    cancelled = asyncio.create_task(asyncio.sleep(600))
    cancelled.cancel()
    with caplog.at_level(logging.ERROR):
        for task in (ended, cancelled):
            task.add_done_callback(supervisor._log_failure)
        await asyncio.gather(ended, cancelled, return_exceptions=True)
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == [
        "keeping something has ended; start heirloom up again to have it back"
    ]
    assert "nobody thought of this" in caplog.text


def test_the_brokers_log_may_be_removed_or_truncated(tmp_path: Path) -> None:
    """The disk watch continues with the file that is there."""
    words = tmp_path / "nats.log"
    words.write_bytes(b"ready, and a long line more\n")
    store = Store(Child(Program("broker", "the broker", [], {})), words)
    words.unlink()
    assert not store.has_failed()
    words.write_bytes(b"a new one: " + b"ready, " * 10)
    assert not store.has_failed()
    words.write_bytes(FAILED)  # shorter than before: the file was started anew
    assert store.has_failed()
    words.write_bytes(b"")
    assert store.has_failed(), "an earlier line is not forgotten"


@pytest.mark.parametrize(
    "line",
    [
        b'[1] 2026/11/29 [ERR] 127.0.0.1:1 - cid:7 - authentication error - User "no space left on device"\n',
        b'[1] 2026/11/29 [ERR] [::1]:1 - cid:6 - "v1:go:no space left on device" - "USERS/a" - Publish Violation - x\n',
        b"[1] 2026/11/29 [ERR] 127.0.0.1:1 - rid:6 - Router: no space left on device\n",
        b'[1] 2026/11/29 [WRN] Malformed JetStream API Request: "no space left on device"\n',
    ],
)
def test_a_name_is_not_taken_for_a_disk_failure(tmp_path: Path, line: bytes) -> None:
    """A broker that cannot write is restarted: a user or connection of that name is no reason to."""
    words = tmp_path / "nats.log"
    words.touch()
    store = Store(Child(Program("broker", "the broker", [], {})), words)
    words.write_bytes(line)
    assert not store.has_failed()
    words.write_bytes(line + b"[1] 2026/11/29 [ERR] JetStream: write a.blk: " + FAILED + b"\n")
    assert store.has_failed()


async def test_the_disk_is_checked_again_after_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One broker's disk was full while another broker was being handled; now it is not, and no broker is stopped."""
    brokers = []
    for number in range(3):
        words = tmp_path / f"{number}.log"
        words.touch()
        brokers.append(Child(Program("broker", f"broker {number}", [], {}, words)))
    broker_lock, free, looks = asyncio.Lock(), 0, itertools.count()

    def seen(store: Store) -> int:
        next(looks)
        return free if store.broker is brokers[0] else 1 << 40

    monkeypatch.setattr(disk_space, "CHECK_SECONDS", 0)
    monkeypatch.setattr(Store, "free", property(seen))
    async with broker_lock:
        keeping = asyncio.create_task(keep_room(brokers, broker_lock))
        for _ in range(10):
            await asyncio.sleep(0)
        free = 1 << 40
    while next(looks) < 100:
        await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert "stays away" not in caplog.text
