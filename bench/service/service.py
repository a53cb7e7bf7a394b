"""Runs the whole service in a temporary directory, with one tenant and two clients, and connects to it."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import nats
from nats.aio.client import Client

from bench.machine import child, children
from heirloom.broker import credentials
from heirloom.broker.credentials import Credentials
from heirloom.broker.roles import LOG_ACCOUNT, ROLES, Role
from heirloom.cli.commands.apply import apply_seed
from heirloom.cli.service_connection import open_bus
from heirloom.seed import Seed
from heirloom.supervisor.options import ServiceOptions
from heirloom.supervisor.supervisor import running

TENANT, CLIENT, QUIET = "acme", "web", "quiet"
SCOPE = "read write offline_access"
SETTINGS = {
    "grant_types": ["authorization_code", "refresh_token"],
    "scope": SCOPE,
    "may_issue": True,
    "max_connections": 10_000,  # a thousand are opened in a second, and closed ones count until the next count
}
SEED = Seed([(TENANT, {"issuer": "https://acme.example"})], [(TENANT, client, SETTINGS) for client in (CLIENT, QUIET)])

ANYTHING = "bench"

SYNCS = {"default": "2m", "always": "always"}
"""When the embedded broker acknowledges: by its own default, and after an fsync each time."""


class Service(NamedTuple):
    """A running service; `processes` are the ids of its processes by name, with their children."""

    sync: str
    data: Path
    host: str
    known: Credentials
    processes: dict[str, list[int]]

    async def as_client(self, client: str = CLIENT) -> Client:
        """Connect with a client's credentials."""
        url = self.known.client_url(TENANT, client, self.host)
        return await nats.connect(url, inbox_prefix=f"_INBOX.{TENANT}.{client}")

    async def as_auditor(self) -> Client:
        """Connect with the auditor's credentials."""
        return await nats.connect(self.known.url("auditor", self.host), inbox_prefix="_INBOX.role.auditor")

    async def as_service(self) -> Client:
        """Connect with all rights in the log's account, which no role of the service has."""
        return await nats.connect(self.known.url(ANYTHING, self.host))


@contextlib.asynccontextmanager
async def serving(sync: str) -> AsyncIterator[Service]:
    """Run the service and its notary on its own broker, with `sync` of `SYNCS`; remove everything after the block."""
    with tempfile.TemporaryDirectory(prefix="heirloom-bench-") as directory:
        data = Path(directory)
        ROLES[ANYTHING] = Role(LOG_ACCOUNT, publish=(">",), subscribe=(">",))
        async with running(ServiceOptions(data, port=0, sync=SYNCS[sync], notary=True)) as where:
            async with open_bus(data, None, "operator") as bus:
                await apply_seed(bus, SEED)
            modules = "heirloom.replica", "heirloom.projector", "heirloom.publisher", "heirloom.notary", "nats-server"
            parts = zip(("service", "projector", "publisher", "notary", "broker"), modules, strict=True)
            processes = {name: _with_children(child(program)) for name, program in parts}
            yield Service(sync, data, where.host, credentials.load(data), processes)


def _with_children(pid: int) -> list[int]:
    return [pid, *children(pid)]
