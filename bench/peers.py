"""Other token services on the same work, where their directory is given and what they need is installed.

The directory holds `run_oidc_provider.sh` and `run_dot.sh`, which are run as they are and print a line of JSON for each
run. They speak HTTP, Heirloom the bus: a difference of a fraction of a millisecond of CPU, on both sides.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.yardsticks.machine import Figure


class Peer(Figure, tag="peer"):
    """Refreshes of another service at 64 in flight; CPU in ms per refresh, by process."""

    label: str
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: dict[str, float]
    errors: dict[str, int]


class _Line(msgspec.Struct):
    label: str
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: dict[str, float]
    errors: dict[str, int]


class Script(NamedTuple):
    """A peer's script, the variants worth a run, and what it needs: files beside it and programs."""

    name: str
    variants: tuple[str, ...]
    files: tuple[str, ...]
    programs: tuple[str, ...]


SCRIPTS = (
    Script(
        "run_oidc_provider.sh",
        ("memory", "redis-everysec", "redis-always"),
        ("op/node_modules", "venv/bin/python"),
        ("node", "redis-server"),
    ),
    Script("run_dot.sh", ("plain",), ("venv/bin/gunicorn",), ("postgres", "setpriv")),
)


def missing(script: Script, directory: Path) -> list[str]:
    """What the script needs and does not find; empty when it can run."""
    files = [name for name in (script.name, *script.files) if not (directory / name).exists()]
    return files + [program for program in script.programs if shutil.which(program) is None]


async def run(script: Script, directory: Path, seconds: float, progress: Callable[[str], None]) -> list[Peer]:
    """One short run of each variant; `progress` hears of each that is done. Raises `RuntimeError` when it fails."""
    env = os.environ | {"RUNS": "1", "CHECK": "0", "AT": "jwt", "SECONDS_PER_RUN": str(max(round(seconds), 1))}
    found: list[Peer] = []
    async with _process([str(directory / script.name), *script.variants], env) as process:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"{"):
                said = msgspec.json.decode(line, type=_Line)
                found.append(Peer(said.label, said.per_s, said.p50_ms, said.p99_ms, said.cpu_s_per_1000, said.errors))
                progress(said.label)
        if await process.wait() != 0 or not found:
            raise RuntimeError(f"{script.name} ended with status {process.returncode} after {len(found)} runs")
    return found


@contextlib.asynccontextmanager
async def _process(command: list[str], env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process in a group of its own, which ends with the block: the scripts clean up when they are told to stop."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdin=quiet, stdout=asyncio.subprocess.PIPE, stderr=quiet, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
