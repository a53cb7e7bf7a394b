"""The notary as a process: `python -m heirloom.notary`, started by `heirloom up` or by an orchestrator.

It reads HEIRLOOM_NATS_URL, HEIRLOOM_DATA (the directory of the credentials; unset where the URL contains some),
HEIRLOOM_NOTARY_KEY and HEIRLOOM_NOTARY_STATE (files, made at the first start; keep the state on another disk than the
log if you can) and HEIRLOOM_NOTARY_SECONDS (4: how long a commit waits for its checkpoint). It prints `ready`. SIGTERM
ends it with 0, a log that it may not sign with status 78.
"""

import asyncio
import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nats.errors import Error as NatsError

from events.bus.broker_version import BrokerTooOld
from events.log.jetstream_api import Unavailable
from events.task_cancellation import end
from heirloom.broker import credentials
from heirloom.broker.credentials import Credentials
from heirloom.broker.own_connection import connect_as
from heirloom.metrics.process_metrics import of_notary
from heirloom.process.child_process import REFUSED
from heirloom.process.event_loop import run, stop_requested
from heirloom.process.log_file import log_file
from heirloom.process.process_report import ProcessReport, Reporter
from notary.key_files import NoKey
from notary.notary import Notary, Refusal
from service.json_log import JsonLog, install
from service.keys.keyring import KeyringError

log = logging.getLogger("heirloom.notary")

MODEST = 5
"""Its niceness: processes that answer requests come first."""


class NotarySettings(NamedTuple):
    """How a notary reaches what it needs; `seconds` lie between two reads of the log."""

    url: str
    key: Path
    state: Path
    seconds: float
    credentials: Credentials | None = None


async def main() -> None:
    """Sign checkpoints until stopped."""
    json_log = JsonLog(log_file())
    install(json_log)
    os.nice(MODEST)
    try:
        reporter = Reporter()
        await run_notary(_settings(), reporter, stop_requested(reporter.receive))
    except (NoKey, Refusal, BrokerTooOld, KeyringError) as refusal:
        log.error("%s", refusal)
        json_log.flush()
        print(f"heirloom: {refusal}", file=sys.stderr, flush=True)
        sys.exit(REFUSED)
    json_log.flush()


async def run_notary(settings: NotarySettings, reporter: Reporter, stop: asyncio.Event) -> None:
    """Run until `stop`. Raises `NoKey` and `Refusal`."""
    working = asyncio.create_task(_vouch(settings, reporter))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
    await end((stopped, working))
    with suppress(asyncio.CancelledError):
        working.result()


async def _vouch(settings: NotarySettings, reporter: Reporter) -> None:
    connection = await connect_as("notary", "heirloom notary", settings.url, settings.credentials)
    try:
        notary = Notary(connection, settings.key, settings.state)
        await notary.start()
        vouched_at = time.time()

        async def report() -> ProcessReport:
            return of_notary(time.time() - vouched_at, len(notary.foreign), (connection,))

        reporter.gather = report
        print("ready", flush=True)
        while True:
            try:
                if checkpoint := await notary.step():
                    log.info("a checkpoint", extra={"size": checkpoint.size})
                vouched_at = time.time()
            except (Unavailable, NatsError) as unavailable:
                log.info("waiting for the log: %s", unavailable)
            await asyncio.sleep(settings.seconds)
    finally:
        await connection.close()


def _settings() -> NotarySettings:
    try:
        paths = Path(os.environ["HEIRLOOM_NOTARY_KEY"]), Path(os.environ["HEIRLOOM_NOTARY_STATE"])
        url, seconds = os.environ["HEIRLOOM_NATS_URL"], float(os.environ.get("HEIRLOOM_NOTARY_SECONDS", "4"))
    except KeyError as error:
        sys.exit(f"heirloom: the environment variable {error.args[0]} is not set")
    return NotarySettings(url, *paths, seconds, credentials.of_environment())


if __name__ == "__main__":
    run(main())
