"""The memory that the embedded brokers aim to stay below: GOMEMLIMIT, which Go's garbage collector obeys (ADR 45).

Go otherwise lets the memory grow to twice of what is in use. The limit is soft: a broker that needs more gets more, and
spends up to half of its processor time on collecting.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

VARIABLE = "GOMEMLIMIT"
MIN_BYTES = 128 << 20
"""nats-server takes three quarters of its limit for streams in memory, of which the service makes two."""
SHARE = 2
"""The brokers of a machine get one part of so many; replicas, read model and the system's file cache get the rest."""
CGROUPS = Path("/sys/fs/cgroup")
OF_THIS_PROCESS = Path("/proc/self/cgroup")


def environment(user: Mapping[str, str], machine_bytes: int | None, brokers: int, wanted: int | None) -> dict[str, str]:
    """The environment of each of so many brokers: `user`'s, with a limit unless there is one already.

    `wanted` bytes are the limit of each; None derives it from the machine's memory, if that is known.
    """
    if wanted is None and machine_bytes is not None:
        wanted = max(machine_bytes // SHARE // brokers, MIN_BYTES)
    ours = {} if wanted is None else {VARIABLE: f"{wanted >> 20}MiB"}
    return {**ours, **user}


def heading(env: Mapping[str, str]) -> bytes:
    """A line for the log of a broker with that environment: which limit it has."""
    return msgspec.json.encode({"event": "a broker starts", VARIABLE: env.get(VARIABLE)}) + b"\n"


def machine_bytes() -> int | None:
    """The memory that this process and its children may use: the machine's, or less in a container; None if unknown."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    return min((physical, *cgroup_limits(OF_THIS_PROCESS, CGROUPS))) if physical > 0 else None


def cgroup_limits(of_this_process: Path, root: Path) -> Iterable[int]:
    """The memory limits of the process's control groups and of those above them, of either version, in bytes.

    A container sees its own group at `root`, whatever path it is told.
    """
    try:
        lines = of_this_process.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for directory in (group, *group.parents):
            if directory.is_relative_to(top):
                yield from _limit(directory / name)


def _limit(file: Path) -> Iterable[int]:
    try:
        text = file.read_text().strip()
    except OSError:
        return
    if text.isdecimal():  # not "max"
        yield int(text)
