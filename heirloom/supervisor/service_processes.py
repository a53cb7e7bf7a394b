"""The processes that `heirloom up` runs besides the brokers: replicas, the projector, the publisher, the notary."""

import os
import sys

from heirloom.data_directory import DataDirectory
from heirloom.process.child_process import Child, Program
from heirloom.supervisor.options import ServiceOptions


def processes(data: DataDirectory, url: str, options: ServiceOptions, *, ours: bool) -> list[Child]:
    """The processes, in the order in which they start.

    Where the broker knows the credentials that are made here (`ours`), they are read from `data`; otherwise `url`
    contains some, if the broker requires any.
    """
    env = _environment(data, url, options, ours)
    python = [sys.executable, "-m"]
    children = []
    for number in range(1, options.replicas + 1):
        log_file = data.process_log(f"replica-{number}")
        children.append(Child(Program("replica", f"replica {number}", [*python, "heirloom.replica"], env, log_file)))
    command, log_file = [*python, "heirloom.projector"], data.process_log("projector")
    children.append(Child(Program("projector", "the projector", command, env, log_file)))
    command, log_file = [*python, "heirloom.publisher"], data.process_log("publisher")
    children.append(Child(Program("publisher", "the publisher", command, env, log_file), is_ready=_at_once))
    if options.notary:  # nothing waits for the notary: it signs what has happened
        command, log_file = [*python, "heirloom.notary"], data.process_log("notary")
        children.append(Child(Program("notary", "the notary", command, env, log_file), is_ready=_at_once))
    return children


def _environment(data: DataDirectory, url: str, options: ServiceOptions, ours: bool) -> dict[str, str]:
    env = os.environ | {
        "HEIRLOOM_NATS_URL": url,
        "HEIRLOOM_STREAM_REPLICAS": str(options.cluster),
        "HEIRLOOM_MAX_CLOCK_SKEW": str(options.max_clock_skew),
        "HEIRLOOM_CACHE_BYTES": str(options.cache_bytes),
        "HEIRLOOM_BOOK_SUBJECTS": str(options.book_limits.subjects),
        "HEIRLOOM_BOOK_BYTES": str(options.book_limits.bytes),
        "HEIRLOOM_KEYRING": str(data.keyring),
        "HEIRLOOM_READ_MODEL": str(data.read_model),
        "HEIRLOOM_NOTARY_KEY": str(data.notary_key),
        "HEIRLOOM_NOTARY_STATE": str(data.notary_state),
        "HEIRLOOM_PARENT": "1",
    }
    env |= options.logs.environment()
    if ours:
        env["HEIRLOOM_DATA"] = str(data.path)
    if options.nats is None or options.insecure:
        env["HEIRLOOM_INSECURE"] = "1"
    return env


async def _at_once() -> bool:
    return True
