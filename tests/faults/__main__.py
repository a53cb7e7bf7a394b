"""`make faults`: a cluster of three brokers under every kind of fault, for any number of seconds.

`python -m tests.faults [--seconds N] [--seed N]`; with `--bugs`, the seeded bugs: each must be detected.
Exits with 1 if a promise was broken, or a bug not detected.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from heirloom.data_directory import DataDirectory
from heirloom.supervisor.preparation import prepare
from tests.faults.harness.disks import NotAllowed, small_disk
from tests.faults.harness.nemeses import FAULTS
from tests.faults.harness.stack import Stack
from tests.faults.hunt import hunt
from tests.faults.report import figures, show
from tests.faults.run import Plan, Result, run
from tests.faults.seeded_bugs.bugs import BUGS

DISK_MEGABYTES = 2048


def main() -> int:
    """Run the faults or the hunt; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is cleaned up
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults, and what came of them.")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--bugs", action="store_true", help="hunt the seeded bugs instead")
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    chosen = parser.parse_args()
    console = Console(stderr=chosen.json)
    console.print(f"seed {chosen.seed}")
    if chosen.bugs:
        return _hunt(chosen.seed, console)
    with tempfile.TemporaryDirectory(prefix="heirloom-faults-") as directory:
        result = _run(Path(directory), chosen.seconds, chosen.seed, console)
        if result.violations:
            kept = Path(f"faults-{chosen.seed}.jsonl")
            shutil.copy(Path(directory) / "history.jsonl", kept)
            console.print(f"the history is in {kept}")
    if chosen.json:
        sys.stdout.buffer.write(msgspec.json.encode({"seed": chosen.seed} | figures(result)) + b"\n")
    else:
        show(result, console)
    return 1 if result.violations else 0


def _run(directory: Path, seconds: float, seed: int, console: Console) -> Result:
    stack = Stack(directory / "data", cluster=3, sync="always")
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with _small_disk(stack, console) as small, Progress(*columns, console=console) as progress:
        faults = [fault for fault in FAULTS if small or fault != "disk full"]
        task = progress.add_task("starting", total=None)
        plan = Plan(seed, seconds, faults, pause=0.03, calm=10)
        return asyncio.run(run(stack, plan, directory, lambda text: progress.update(task, description=text)))


@contextlib.contextmanager
def _small_disk(stack: Stack, console: Console) -> Iterator[bool]:
    """Put the last broker on a small disk that can be filled; yields whether that was possible."""
    prepare(DataDirectory(stack.data))
    with contextlib.ExitStack() as disks:
        try:
            disks.enter_context(small_disk(stack.small_disk, DISK_MEGABYTES))
        except NotAllowed as why:
            console.print(f"without a full disk: {why}")
            yield False
        else:
            yield True


def _hunt(seed: int, console: Console) -> int:
    caught = 0
    for name in BUGS:
        with tempfile.TemporaryDirectory(prefix="heirloom-faults-") as directory:
            result = hunt(name, Path(directory), seed)
        caught += bool(result.violations)
        verdict = f"caught: {result.violations[0].rule}" if result.violations else "[red]not caught[/red]"
        console.print(f"{name}: {verdict}")
    console.print(f"{caught} of {len(BUGS)} caught")
    return 0 if caught == len(BUGS) else 1


if __name__ == "__main__":
    sys.exit(main())
