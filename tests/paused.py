"""Processes that hang, as with a debugger in them or a machine that swaps."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def paused(*pids: int) -> Iterator[None]:
    """None of these processes does anything within the block."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        while not all(_has_stopped(pid) for pid in pids):
            time.sleep(0.001)  # the signal is sent; a thread that runs on another core goes on until it has heard of it
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _has_stopped(pid: int) -> bool:
    return all(_state(thread) in "TX" for thread in Path(f"/proc/{pid}/task").glob("*/stat"))


def _state(thread: Path) -> str:
    try:
        return thread.read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"  # it has just ended
