"""The projector as a process: `python -m heirloom.projector`, started by `heirloom up` or by an orchestrator.

It follows the log into a read model and answers the audit queries from it. It reads HEIRLOOM_NATS_URL, HEIRLOOM_DATA
(the directory of the credentials; unset where the URL contains some) and HEIRLOOM_READ_MODEL (the SQLite file). It
prints `ready` when queries are answered and it has applied the log as it was at the start. SIGTERM drains it; it exits
with 0.
"""

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nats.errors import Error as NatsError

from events.bus.broker_version import BrokerTooOld
from events.bus.connection import Connection
from events.bus.faststream_broker import Broker
from events.bus.own_inbox import OwnInbox, of_anybody, of_role
from events.fairness.request_gate import Gate
from events.log.stream import last_sequence
from events.task_cancellation import end
from heirloom.broker import credentials
from heirloom.broker.credentials import Credentials
from heirloom.broker.own_connection import connect_as
from heirloom.metrics.process_metrics import of_projector
from heirloom.process.event_loop import run, stop_requested
from heirloom.process.log_file import log_file
from heirloom.process.process_report import Reporter
from heirloom.what_if.query import WhatIf
from projections.progress import Progress
from projections.projector.follower import Follower
from projections.queries.server import QUERIES_PER_SECOND, Audit
from service.json_log import JsonLog, install
from service.keys.keyring import KeyringError

log = logging.getLogger("heirloom.projector")


class ProjectorSettings(NamedTuple):
    """How a projector reaches what it needs."""

    url: str
    read_model: Path
    credentials: Credentials | None = None


async def main() -> None:
    """Serve until stopped."""
    json_log = JsonLog(log_file())
    install(json_log)
    logging.getLogger("heirloom.faststream").setLevel(logging.WARNING)
    try:
        settings = _settings()
    except KeyringError as error:
        sys.exit(f"heirloom: {error}")
    reporter = Reporter()
    stop, ready = stop_requested(reporter.receive), asyncio.Event()
    serving = asyncio.create_task(run_projector(settings, reporter, stop, ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        gc.freeze()  # objects of the start-up stay; collecting them again and again would cost every long answer
        print("ready", flush=True)
    waiting.cancel()
    try:
        await serving
    except BrokerTooOld as error:
        sys.exit(f"heirloom: {error}")
    finally:
        json_log.flush()


async def run_projector(
    settings: ProjectorSettings, reporter: Reporter, stop: asyncio.Event, ready: asyncio.Event
) -> None:
    """Follow and answer until `stop`; sets `ready` when it has caught up with the log. Drains before it returns."""
    stopped = asyncio.create_task(stop.wait())
    connecting = asyncio.create_task(_connect(settings))
    await asyncio.wait((connecting, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not connecting.done():
        connecting.cancel()
        return
    log_bus, audit_buses = await connecting
    buses = (log_bus, *(connection for connection, _ in audit_buses))
    progress = Progress()
    gate = Gate(QUERIES_PER_SECOND)  # one for all connections: the rates are of this process
    reporter.gather = partial(of_projector, progress, gate, partial(last_sequence, log_bus), buses)
    audit = Audit(progress, partial(last_sequence, log_bus), {"what_if": WhatIf(log_bus)})
    brokers = [Broker(connection, gate, own_inbox) for connection, own_inbox in audit_buses]
    for broker in brokers:
        audit.serve(broker)
        await broker.start()
    following = asyncio.create_task(Follower(log_bus, settings.read_model, progress, audit, ready).follow())
    try:
        await asyncio.wait((following, stopped), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
            await stopped  # halted: queries still see the commits before it
    finally:
        log.info("draining")
        progress.give_up_waiting("the projector is stopping")
        leaves: list[Callable[[], Awaitable[None]]] = [broker.stop for broker in brokers]
        leaves += [partial(end, (following,)), audit.close, *(one.close for one in buses)]
        for leave in leaves:
            with contextlib.suppress(NatsError):  # a lost connection must not keep the others from closing
                await leave()


async def _connect(settings: ProjectorSettings) -> tuple[Connection, list[tuple[Connection, OwnInbox]]]:
    """Connect to the log, and to each account with callers; returns these with their inboxes."""
    url, known = settings.url, settings.credentials
    log_bus = await connect_as("projector", "heirloom projector", url, known)
    if known is None:
        return log_bus, [(await connect_as("audit", "heirloom audit", url, known), of_anybody)]
    return log_bus, [
        (await connect_as("audit", "heirloom audit", url, known), of_role("inquiry")),
        (await connect_as("audit-auditors", "heirloom auditors", url, known), of_role("auditor")),
    ]


def _settings() -> ProjectorSettings:
    try:
        url, read_model = os.environ["HEIRLOOM_NATS_URL"], Path(os.environ["HEIRLOOM_READ_MODEL"])
    except KeyError as error:
        sys.exit(f"heirloom: the environment variable {error.args[0]} is not set")
    return ProjectorSettings(url, read_model, credentials.of_environment())


if __name__ == "__main__":
    run(main())
