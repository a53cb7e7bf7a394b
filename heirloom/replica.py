"""A service replica as a process: `python -m heirloom.replica`, started by `heirloom up` or by an orchestrator.

It reads HEIRLOOM_NATS_URL, HEIRLOOM_KEYRING (a file), HEIRLOOM_STREAM_REPLICAS (1), HEIRLOOM_MAX_CLOCK_SKEW (300,
seconds; the same for every replica), HEIRLOOM_CACHE_BYTES (268435456: of commits, in memory), HEIRLOOM_BOOK_SUBJECTS
(1000000) and HEIRLOOM_BOOK_BYTES (4294967296), at which the open book is closed, and HEIRLOOM_DATA (the directory of
the credentials; unset where the URL contains some). Before it serves, it tests what strangers may do on
that broker (`heirloom.exposure.doors`), unless HEIRLOOM_INSECURE is set. It prints `ready`. SIGTERM drains it, and so
does the end of its standard input where HEIRLOOM_PARENT is set; it exits with 0, or with 1 and one line.
"""

import asyncio
import gc
import os
import re
import sys
from pathlib import Path

from events.aggregates.commit import UnreadableCommit
from events.bus.broker_version import BrokerTooOld
from events.jetstream.other_streams import OtherStreams
from events.log.jetstream_api import JetStreamMissing
from events.log.stream import Required, WeakStream
from events.task_cancellation import end
from heirloom.app import Disconnected, ReplicaSettings, run_replica
from heirloom.broker import credentials
from heirloom.exposure.doors import OpenDoors, Untried
from heirloom.process.event_loop import run, stop_requested
from heirloom.process.log_file import log_file
from heirloom.process.process_report import Reporter
from heirloom.tracing.setup import TracingMissing
from service.families.cache import DEFAULT_BYTES, MIN_BYTES
from service.json_log import JsonLog, install
from service.keys.keyring import KeyringError
from service.registry.tenant import KeyMismatch
from service.replicas.book_keeper import DEFAULT_BYTES as DEFAULT_BOOK_BYTES
from service.replicas.book_keeper import DEFAULT_SUBJECTS, MIN_SUBJECTS, BookLimits
from service.replicas.broker_clock import TOLERATED_SECONDS


async def main() -> None:
    """Serve until stopped."""
    json_log = JsonLog(log_file())
    install(json_log)
    try:
        settings = _settings()
        reporter = Reporter()
        stop, ready = stop_requested(reporter.receive), asyncio.Event()
        serving = asyncio.create_task(run_replica(settings, json_log, reporter, stop, ready))
        waiting = asyncio.create_task(ready.wait()), asyncio.create_task(stop.wait())
        await asyncio.wait((serving, *waiting), return_when=asyncio.FIRST_COMPLETED)
        if ready.is_set():
            print("ready", flush=True)
            gc.freeze()  # objects of the start-up stay; collecting them again and again would cost every request
        elif not serving.done():
            await end((serving,))  # stopped before anybody was served
            return
        await serving
    except (
        KeyringError, WeakStream, OtherStreams, JetStreamMissing, KeyMismatch, UnreadableCommit, TracingMissing,
        Disconnected, BrokerTooOld, OpenDoors, Untried,
    ) as error:  # fmt: skip
        json_log.flush()
        sys.exit(f"heirloom: {error}")


def _settings() -> ReplicaSettings:
    try:
        url, keyring = os.environ["HEIRLOOM_NATS_URL"], Path(os.environ["HEIRLOOM_KEYRING"])
    except KeyError as error:
        sys.exit(f"heirloom: the environment variable {error.args[0]} is not set")
    return ReplicaSettings(
        url,
        keyring,
        required=Required(int(os.environ.get("HEIRLOOM_STREAM_REPLICAS", "1"))),
        credentials=credentials.of_environment(),
        try_doors="HEIRLOOM_INSECURE" not in os.environ,
        max_clock_skew=int(os.environ.get("HEIRLOOM_MAX_CLOCK_SKEW", TOLERATED_SECONDS)),
        cache_bytes=_number("HEIRLOOM_CACHE_BYTES", "bytes", DEFAULT_BYTES, MIN_BYTES),
        book_limits=BookLimits(
            _number("HEIRLOOM_BOOK_SUBJECTS", "subjects", DEFAULT_SUBJECTS, MIN_SUBJECTS),
            _number("HEIRLOOM_BOOK_BYTES", "bytes", DEFAULT_BOOK_BYTES, MIN_BYTES),
        ),
    )


def _number(name: str, of: str, default: int, least: int) -> int:
    given = os.environ.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}", given) or int(given) < least:
        sys.exit(f"heirloom: {name} is {given!r}, and must be a number of {of}, {least} or more")
    return int(given)


if __name__ == "__main__":
    run(main())
