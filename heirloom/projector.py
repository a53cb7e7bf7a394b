"""The projector as a process: `python -m heirloom.projector`, started by `heirloom up` or by an orchestrator.

Follows the log into a read model and answers the audit queries from it. Reads HEIRLOOM_NATS_URL, HEIRLOOM_DATA (the
directory of the credentials; unset where the URL holds some) and HEIRLOOM_READ_MODEL (the SQLite file). Prints `ready`
when queries answer and it has caught up with the log as it was at the start. SIGTERM drains it; it exits 0.
"""

import asyncio
import contextlib
import gc
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nats.errors import Error as NatsError

from events.broker import Broker
from events.broker_version import BrokerTooOld
from events.bus import Connection
from events.ending import end
from events.gate import Gate
from events.stream import last_sequence
from heirloom import credentials
from heirloom.credentials import Credentials
from heirloom.figures import of_projector
from heirloom.log_file import log_file
from heirloom.own_connection import connect_as
from heirloom.process import run, stop_requested
from heirloom.report import Reporter
from heirloom.what_if_query import WhatIf
from projections.audit import QUESTIONS_PER_SECOND, Audit
from projections.follower import Follower
from projections.progress import Progress
from service.journal import Journal, install
from service.keyring import KeyringError

log = logging.getLogger("heirloom.projector")


class Settings(NamedTuple):
    """Where a projector finds what it needs."""

    url: str
    read_model: Path
    credentials: Credentials | None = None


async def main() -> None:
    """Serve until told to stop."""
    journal = Journal(log_file())
    install(journal)
    logging.getLogger("heirloom.faststream").setLevel(logging.WARNING)
    try:
        settings = _settings()
    except KeyringError as error:
        sys.exit(f"heirloom: {error}")
    reporter = Reporter()
    stop, ready = stop_requested(reporter.asked), asyncio.Event()
    serving = asyncio.create_task(run_projector(settings, reporter, stop, ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        gc.freeze()  # what start-up built stays; looking through it again and again would cost every long answer
        print("ready", flush=True)
    waiting.cancel()
    try:
        await serving
    except BrokerTooOld as error:
        sys.exit(f"heirloom: {error}")
    finally:
        journal.flush()


async def run_projector(settings: Settings, reporter: Reporter, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Follow and answer until `stop`; sets `ready` when caught up with the log. Drains before it returns."""
    stopped = asyncio.create_task(stop.wait())
    connecting = asyncio.create_task(_connect(settings))
    await asyncio.wait((connecting, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not connecting.done():
        connecting.cancel()
        return
    log_bus, audit_bus = await connecting
    progress = Progress()
    reporter.gather = partial(of_projector, progress, partial(last_sequence, log_bus), (log_bus, audit_bus))
    audit = Audit(progress, partial(last_sequence, log_bus), {"what_if": WhatIf(log_bus)})
    broker = Broker(audit_bus, Gate(QUESTIONS_PER_SECOND))
    audit.serve(broker)
    await broker.start()
    following = asyncio.create_task(Follower(log_bus, settings.read_model, progress, audit, ready).follow())
    try:
        await asyncio.wait((following, stopped), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
            await stopped  # halted: what is there can still be asked
    finally:
        log.info("draining")
        progress.give_up_waiting("the projector is stopping")
        for leave in (broker.stop, partial(end, (following,)), audit.close, log_bus.close, audit_bus.close):
            with contextlib.suppress(NatsError):  # a connection that is gone keeps nobody from leaving the others
                await leave()


async def _connect(settings: Settings) -> tuple[Connection, Connection]:
    url, known = settings.url, settings.credentials
    return (
        await connect_as("projector", "heirloom projector", url, known),
        await connect_as("audit", "heirloom audit", url, known),
    )


def _settings() -> Settings:
    try:
        url, read_model = os.environ["HEIRLOOM_NATS_URL"], Path(os.environ["HEIRLOOM_READ_MODEL"])
    except KeyError as error:
        sys.exit(f"heirloom: the environment variable {error.args[0]} is not set")
    return Settings(url, read_model, credentials.of_environment())


if __name__ == "__main__":
    run(main())
