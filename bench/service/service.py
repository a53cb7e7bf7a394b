"""The whole service in a temporary directory, with one tenant and two clients, and connections to it."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import nats
from nats.aio.client import Client

from bench.yardsticks.machine import child, children
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
    "max_connections": 10_000,  # a thousand are opened in a second, and those just closed count until the next look
}
SEED = Seed([(TENANT, {"issuer": "https://acme.example"})], [(TENANT, client, SETTINGS) for client in (CLIENT, QUIET)])

ANYTHING = "bench"

SYNCS = {"default": "2m", "always": "always"}
"""When the embedded broker calls a commit stored: its own default, and an fsync for every acknowledgement."""


class Service(NamedTuple):
    """A running service; `processes` are those of its parts by name, with what each has started itself."""

    sync: str
    data: Path
    host: str
    known: Credentials
    processes: dict[str, list[int]]

    async def as_client(self, client: str = CLIENT) -> Client:
        """A connection with a client's credentials."""
        url = self.known.client_url(TENANT, client, self.host)
        return await nats.connect(url, inbox_prefix=f"_INBOX.{TENANT}.{client}")

    async def as_auditor(self) -> Client:
        """A connection with the auditor's credentials."""
        return await nats.connect(self.known.url("auditor", self.host), inbox_prefix="_INBOX.role.auditor")

    async def as_service(self) -> Client:
        """A connection that may do anything in the log's account. The service has no such role."""
        return await nats.connect(self.known.url(ANYTHING, self.host))


@contextlib.asynccontextmanager
async def serving(sync: str) -> AsyncIterator[Service]:
    """The service and its notary on a broker of its own, `sync` one of `SYNCS`. Nothing is left when the block ends."""
    with tempfile.TemporaryDirectory(prefix="heirloom-bench-") as directory:
        data = Path(directory)
        ROLES[ANYTHING] = Role(LOG_ACCOUNT, publish=(">",), subscribe=(">",))
        async with running(ServiceOptions(data, port=0, sync=SYNCS[sync], notary=True)) as where:
            async with open_bus(data, None, "operator") as bus:
                await apply_seed(bus, SEED)
            modules = "heirloom.replica", "heirloom.projector", "heirloom.notary", "nats-server"
            parts = zip(("service", "projector", "notary", "broker"), modules, strict=True)
            processes = {name: _with_children(child(program)) for name, program in parts}
            yield Service(sync, data, where.host, credentials.load(data), processes)


def _with_children(pid: int) -> list[int]:
    return [pid, *children(pid)]
