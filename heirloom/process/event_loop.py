"""The event loop of the service's processes, and the request to stop."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine

from events.task_cancellation import end


def run(main: Coroutine[None, None, None]) -> None:
    """Run `main` on uvloop where the platform has it, until every task that it started has ended."""
    gc.freeze()  # imported objects stay; the final garbage collection would take a tenth of a second for them
    if sys.platform == "win32":
        asyncio.run(_to_the_end(main))
        return
    import uvloop  # not on every platform

    uvloop.run(_to_the_end(main))


async def _to_the_end(main: Coroutine[None, None, None]) -> None:
    try:
        await main
    finally:  # asyncio would cancel each task once, and wait for ever for one that suppresses it
        await end(asyncio.all_tasks() - {asyncio.current_task()})


def stop_requested(on_input: Callable[[bytes], None] = lambda _: None) -> asyncio.Event:
    """An event, set by SIGTERM or SIGINT, and for a child of `heirloom up` when its parent has ended, in whatever way.

    `on_input` receives what the parent writes meanwhile.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if os.environ.get("HEIRLOOM_PARENT"):
        loop.add_reader(sys.stdin.fileno(), _read_input, loop, stop, on_input)
    return stop


def _read_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, on_input: Callable[[bytes], None]) -> None:
    if data := os.read(sys.stdin.fileno(), 1024):
        on_input(data)
    else:
        loop.remove_reader(sys.stdin.fileno())
        stop.set()
