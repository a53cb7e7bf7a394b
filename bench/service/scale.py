"""`python -m bench scale` reads, projects, verifies and queries a log of a million commits."""

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from itertools import islice
from pathlib import Path

from bench.machine import Figure, child
from bench.service import audit_queries, whole
from bench.service.long_log import MadeUpLog, write
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from heirloom.broker import nats_server
from heirloom.process.child_process import Child, Program
from projections.read_model import open_for_queries

STOP_SECONDS = 30
WAYS = ("reading", "rebuild", "verify", "reading", "rebuild", "verify", "reading")
"""In turns, so that a slower machine affects all."""


class Size(Figure, tag="read-model-size"):
    """The bytes of the read model on disk, and the families and commits in it."""

    size: int
    families: int
    commits: int

    @property
    def per_commit(self) -> float:
        """The bytes per commit; a family with ten generations has ten commits."""
        return self.size / self.commits


async def measure(commits: int, seed: int, doing: Callable[[str], None]) -> AsyncGenerator[Figure, None]:
    """Write a log of so many commits, and make all measurements on it."""
    with tempfile.TemporaryDirectory(prefix="heirloom-bench-") as name:
        directory = Path(name)
        file, history = directory / "read-model.db", iter(MadeUpLog(seed))
        async with _broker(directory / "log", directory / "nats.log") as url, _connected(url) as log:
            await stream.ensure(log, stream.Required())
            await write(log, islice(history, commits), lambda done: doing(f"writing the log: {done:,} of {commits:,}"))
            for way in WAYS:
                doing(f"{way} of {commits:,} commits")
                if way == "rebuild":
                    file.unlink(missing_ok=True)
                yield await whole.measure(way, url, file, child("nats-server"))
            yield _size(file)
            async with _projector(url, file):
                for figure in await audit_queries.measure(log, audit_queries.known(file), doing):
                    yield figure
                doing("asking for commits just acknowledged")
                yield await audit_queries.fresh(log, log, history)


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    connection = await connect(url, "heirloom bench", patient=False)
    try:
        yield connection
    finally:
        await connection.close()


def _size(file: Path) -> Size:
    with contextlib.closing(open_for_queries(file)) as db:
        families = db.execute("SELECT count(*) FROM families").fetchone()[0]
        commits = db.execute("SELECT seq FROM applied").fetchone()[0]
    return Size(sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*")), families, commits)


@contextlib.asynccontextmanager
async def _broker(store: Path, log: Path) -> AsyncIterator[str]:
    """Run a broker without credentials, and yield its URL."""
    port = nats_server.free_port()
    listen = ["--addr", nats_server.HOST, "--port", str(port)]
    command = [nats_server.binary(), *listen, "--jetstream", "--store_dir", str(store)]
    server = Child(Program("broker", "the broker", command, dict(os.environ), log), is_ready=lambda: _answers(port))
    async with _running(server):
        yield f"nats://{nats_server.HOST}:{port}"


async def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((nats_server.HOST, port)) == 0


@contextlib.asynccontextmanager
async def _projector(url: str, file: Path) -> AsyncIterator[None]:
    """Run a projector, and yield once it has caught up."""
    environment = os.environ | {"HEIRLOOM_NATS_URL": url, "HEIRLOOM_READ_MODEL": str(file)}
    command, errors = [sys.executable, "-m", "heirloom.projector"], file.with_name("projector.log")
    async with _running(Child(Program("projector", "the projector", command, environment, errors))):
        yield


@contextlib.asynccontextmanager
async def _running(process: Child) -> AsyncIterator[None]:
    try:
        await process.start()
        yield
    finally:
        await process.stop(STOP_SECONDS)
