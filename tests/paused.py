"""Processes that hang, as in a debugger or on a machine that swaps."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def paused(*pids: int) -> Iterator[None]:
    """Suspend these processes within the block."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        while not all(has_stopped(pid) for pid in pids):
            time.sleep(0.001)  # a thread on another core runs on until the signal reaches it
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def has_stopped(pid: int) -> bool:
    """Whether none of the process's threads runs any more."""
    return all(_state(thread) in "TX" for thread in Path(f"/proc/{pid}/task").glob("*/stat"))


def _state(thread: Path) -> str:
    try:
        return thread.read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"  # it has ended since
