"""The service under test: `heirloom up` with the test's own entry modules, processes, links and log."""

import contextlib
import os
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from events.bus.connect import connect
from events.bus.connection import Connection
from heirloom.broker import credentials
from heirloom.broker.nats_server import QUIET_PORTS, is_free
from heirloom.broker.roles import inbox
from heirloom.data_directory import node_names
from tests.faults.harness.orders import Orders
from tests.faults.harness.up import Setup
from tests.seed import client, seed, tenant
from tests.system.service import Service
from tests.witness import WITNESS

SHARED: dict[str, Any] = {"grant_types": ["refresh_token"], "scope": "read offline_access", "may_issue": True}
SEED = seed(
    tenant("acme", issuer="https://acme.example"),
    client("web", **SHARED),
    client("lenient", refresh_token_grace=5, **SHARED),
)
CLIENTS = {"web": False, "lenient": True}
"""Clients, and whether each has a grace time."""
REPLICAS = 2


class Stack(Service):
    """Two replicas and a projector on one broker or on a cluster."""

    def __init__(self, data: Path, *, cluster: int = 1, bug: str | None = None, sync: str = "default") -> None:
        self.brokers = cluster
        self.nodes = node_names(cluster)
        self.port = _free_ports(cluster)
        options = ["--replicas", str(REPLICAS), "--port", str(self.port), "--sync", sync]
        super().__init__(data, *options, *(["--cluster", str(cluster)] if cluster > 1 else []), seed=SEED)
        self.setup = Setup(bug)
        self._arguments = self._command[1:]

    @property
    def hosts(self) -> list[str]:
        """The brokers' addresses."""
        return [f"127.0.0.1:{self.port + number}" for number in range(self.brokers)]

    def start(self) -> None:
        """Start it as `self.setup` says, and wait until it is ready."""
        setup = msgspec.json.encode(self.setup).decode()
        self._command = [sys.executable, "-m", "tests.faults.harness.up", setup, *self._arguments]
        super().start()

    def everything(self) -> list[int]:
        """The pids of replicas, projector and brokers."""
        return [
            pid
            for what in ("tests.faults.harness.replica", "tests.faults.harness.projector", "nats-server")
            for pid in self.pids(what)
        ]

    def broker(self, node: str) -> int:
        """The pid of that node's broker."""
        return int((self.data / node / "nats.pid").read_text())

    @property
    def small_disk(self) -> Path:
        """The directory that may be a small disk: the last node's."""
        return self.data / self.nodes[-1]

    def order(self, replica: int, orders: Orders) -> int | None:
        """Send orders to one replica (counted from 1); returns its pid, or None if it does not run."""
        file = self.data / f"replica-{replica}.orders"
        file.write_bytes(msgspec.json.encode(orders))
        for pid in self.pids("tests.faults.harness.replica"):
            if _environment(pid).get("HEIRLOOM_TEST_ORDERS") == str(file):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
                    return pid
        return None

    def order_writer_to_die(self) -> None:
        """Have the writer die between the rows of its next batch and their checkpoint."""
        (self.data / "the-projector.orders").touch()

    @contextlib.asynccontextmanager
    async def undisturbed(self, host: str | None = None, role: str = WITNESS) -> AsyncIterator[Connection]:
        """A connection in the service's account without a proxy, to that broker or to any."""
        url = ",".join(f"nats://{one}" for one in ([host] if host else self.hosts))
        seed = credentials.load(self.data).seed(role)
        connection = await connect(url, "witness", inbox_prefix=inbox(role), nkey_seed=seed)
        try:
            yield connection
        finally:
            await connection.close()


def read_model_rows(file: Path) -> list[str]:
    """The whole read model as SQL."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


def _environment(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_text()
    except OSError:
        return {}  # the process has ended
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def _free_ports(count: int) -> int:
    """The first of that many consecutive free ports."""
    while True:
        first = random.SystemRandom().choice(QUIET_PORTS)  # not from the seed, which other runs may share
        if all(is_free(first + number) for number in range(count)):
            return first
