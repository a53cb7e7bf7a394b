"""What `heirloom up` runs besides the brokers: replicas, the projector, the notary."""

import os
import sys
from pathlib import Path

from heirloom.process.child_process import Child
from heirloom.process.log_file import DEFAULT_LIMITS, Limits
from notary import key_files as notary_files

READ_MODEL = "read-model.db"


def processes(
    data: Path,
    url: str,
    *,
    replicas: int,
    copies: int,
    notary: bool,
    ours: bool,
    doors: bool,
    max_clock_skew: int,
    logs: Limits = DEFAULT_LIMITS,
) -> list[Child]:
    """In the order in which they start. `copies` is how many brokers must hold the log, `max_clock_skew` in seconds.

    Where the credentials are `ours`, they lie in `data`; otherwise `url` holds some, if the broker wants any. `doors`:
    the replicas try them first (`heirloom.exposure.doors`).
    """
    env = os.environ | {
        "HEIRLOOM_NATS_URL": url,
        "HEIRLOOM_STREAM_REPLICAS": str(copies),
        "HEIRLOOM_MAX_CLOCK_SKEW": str(max_clock_skew),
        "HEIRLOOM_KEYRING": str(data / "keyring.json"),
        "HEIRLOOM_READ_MODEL": str(data / READ_MODEL),
        "HEIRLOOM_NOTARY_KEY": str(data / notary_files.KEY),
        "HEIRLOOM_NOTARY_STATE": str(data / notary_files.STATE),
        "HEIRLOOM_PARENT": "1",
    }
    env |= logs.environment()
    if ours:
        env["HEIRLOOM_DATA"] = str(data)
    if not doors:
        env["HEIRLOOM_INSECURE"] = "1"

    python = [sys.executable, "-m"]
    children = [
        Child(f"replica {number}", [*python, "heirloom.replica"], env, errors=data / f"replica-{number}.log")
        for number in range(1, replicas + 1)
    ]
    children.append(Child("the projector", [*python, "heirloom.projector"], env, errors=data / "projector.log"))
    if notary:  # nobody waits for it: it vouches for what has happened
        command, errors = [*python, "heirloom.notary"], data / "notary.log"
        children.append(Child("the notary", command, env, errors=errors, is_ready=_at_once))
    return children


async def _at_once() -> bool:
    return True
