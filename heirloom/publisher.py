"""The publisher as a process: `python -m heirloom.publisher`, started by `heirloom up` or by an orchestrator.

It follows the log into the revocation feed (`service.revocations`). It reads HEIRLOOM_NATS_URL, HEIRLOOM_DATA (the
directory of the credentials; unset where the URL contains some) and HEIRLOOM_MAX_CLOCK_SKEW (300, seconds; that of the
replicas). It prints `ready` when it is connected. SIGTERM ends it; it exits with 0, or with 1 and one line. Two of them
side by side publish every entry once all the same.
"""

import asyncio
import logging
import os
import sys
import time
from contextlib import suppress
from functools import partial

from events.aggregates.commit import UnreadableCommit
from events.bus.broker_version import BrokerTooOld
from events.bus.connection import Connection
from events.task_cancellation import end
from heirloom.broker import credentials
from heirloom.broker.own_connection import connect_as
from heirloom.metrics.process_metrics import of_publisher
from heirloom.process.event_loop import run, stop_requested
from heirloom.process.log_file import log_file
from heirloom.process.process_report import ProcessReport, Reporter
from service.json_log import JsonLog, install
from service.keys.keyring import KeyringError
from service.replicas.broker_clock import TOLERATED_SECONDS
from service.revocations.publisher import Publisher
from service.revocations.stream import tolerance

log = logging.getLogger("heirloom.publisher")


async def main() -> None:
    """Publish until stopped."""
    json_log = JsonLog(log_file())
    install(json_log)
    reporter = Reporter()
    stop = stop_requested(reporter.receive)
    working = asyncio.create_task(_publish(reporter))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
    await end((stopped, working))
    try:
        with suppress(asyncio.CancelledError):
            working.result()
    except (KeyringError, BrokerTooOld, UnreadableCommit) as error:
        sys.exit(f"heirloom: {error}")
    finally:
        json_log.flush()


async def _publish(reporter: Reporter) -> None:
    try:
        url = os.environ["HEIRLOOM_NATS_URL"]
    except KeyError as error:
        sys.exit(f"heirloom: the environment variable {error.args[0]} is not set")
    skew = int(os.environ.get("HEIRLOOM_MAX_CLOCK_SKEW", TOLERATED_SECONDS))
    connection = await connect_as("publisher", "heirloom publisher", url, credentials.of_environment())
    try:
        publisher = Publisher(connection, tolerance(skew))
        reporter.gather = partial(_report, publisher, connection)
        print("ready", flush=True)
        await publisher.run()
    finally:
        await connection.close()


async def _report(publisher: Publisher, connection: Connection) -> ProcessReport:
    behind = time.monotonic() - publisher.caught_up_at
    return of_publisher(publisher.entries, publisher.processed, behind, (connection,))


if __name__ == "__main__":
    run(main())
