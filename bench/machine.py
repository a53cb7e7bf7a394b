"""The machine and versions of a measurement, and the CPU and memory of processes."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec

from heirloom.broker.nats_server import binary

_TICKS = os.sysconf("SC_CLK_TCK")


class Machine(msgspec.Struct, frozen=True):
    """The `cores` that this process may use, the memory in GiB, and versions."""

    cores: int
    memory_gib: float
    nats_server: str
    python: str

    def __str__(self) -> str:
        size = f"{self.cores} cores, {self.memory_gib:.0f} GiB"
        return f"{size} · nats-server {self.nats_server} · Python {self.python}"


@cache
def this_machine() -> Machine:
    """Describe the machine that runs this."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    version = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    nats_server = version.split()[-1].removeprefix("v")
    return Machine(len(os.sched_getaffinity(0)), round(memory, 1), nats_server, platform.python_version())


class Figure(msgspec.Struct, kw_only=True, tag_field="figure"):
    """A measurement, with the machine on which it was made."""

    machine: Machine = msgspec.field(default_factory=this_machine)


def cpu_seconds(processes: Sequence[int]) -> float:
    """The CPU time of the processes so far, user and system, in steps of 10 ms each."""
    stats = [_stat(Path("/proc") / str(pid)) for pid in processes]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / _TICKS


def busy_seconds() -> float:
    """The CPU time of all processes of the machine so far, in steps of 10 ms."""
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / _TICKS


def resident_bytes(processes: Sequence[int]) -> int:
    """The resident memory of the processes; a page that two of them share is counted twice."""
    found = 0
    for pid in processes:
        with contextlib.suppress(OSError):  # it has just ended
            found += int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return found


def child(program: str) -> int:
    """The child of this process whose command line contains `program`. Raises `LookupError`."""
    for pid in children(os.getpid()):
        if program in (Path("/proc") / str(pid) / "cmdline").read_bytes().decode():
            return pid
    raise LookupError(f"no child process runs {program}")


def children(parent: int) -> list[int]:
    """The running child processes of `parent`."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                if int(_stat(process)[1]) == parent:
                    found.append(int(process.name))
    return found


def _stat(process: Path) -> list[str]:
    # the name, in parentheses, may contain anything
    return (process / "stat").read_text().rsplit(")", 1)[1].split()
