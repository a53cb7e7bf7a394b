"""Measures other token services with the same work, if their directory is given and their needs are installed.

The directory contains `run_oidc_provider.sh` and `run_dot.sh`, which print a line of JSON for each run. They use HTTP
and Heirloom the bus, which makes a difference of a fraction of a millisecond of CPU on both sides.
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

from bench.machine import Figure


class Peer(Figure, tag="peer"):
    """The refreshes of another service, 64 in flight; CPU in ms per refresh, by process."""

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
    """A peer's script, its variants to run, and the files and programs that it needs."""

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
    """List the files and programs that the script needs and that are missing."""
    files = [name for name in (script.name, *script.files) if not (directory / name).exists()]
    return files + [program for program in script.programs if shutil.which(program) is None]


async def run(script: Script, directory: Path, seconds: float, progress: Callable[[str], None]) -> list[Peer]:
    """Run each variant shortly; `progress` receives each label when it is done. Raises `RuntimeError`."""
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
    """Run a process in its own group, and stop the group after the block; the scripts then clean up."""
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
