"""The registry in memory: what every replica knows of tenants, clients, keys, roles and people's cut-offs.

A consumer feeds it from the log, in order. A tenant or client that is missing here is looked up in the log before it
is refused. While this replica cannot tell how old its memory is (`service.replicas.leases`), the log is asked always.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from events.aggregates import aggregate_names
from events.aggregates.aggregate_names import BOOK, AggregateName
from events.aggregates.book import BookState
from events.bus.connection import Connection
from events.log.consumer_reader import read
from events.log.grammar import Foreign, aggregate_on, read_commit
from events.log.jetstream_api import Unavailable
from events.log.log import Head, Log
from events.log.stored_message import StoredMessage
from service.keys.keyring import Keyring
from service.registry.blocked_subjects import BlockedSubjects
from service.registry.named_role import TenantRole, as_client, bound_of_role
from service.registry.tenant import Client, Tenant

log = logging.getLogger("heirloom.registry")

RETRY_SECONDS = 0.2
"""The pause between two attempts to read the commit below a foreign message."""
CATCH_UP_SECONDS = 3.0
"""How long `catch_up` waits for a commit."""


def _ignore(_tenant: str, _client_id: str) -> None:
    """On a broker that is not ours no connection is ended."""


class Registry:
    """Tenants and clients as of the newest registry commit that this replica has applied.

    `current_until` is a time of the event loop's clock: until then this replica may decide on its memory. `voided` is
    called with the tenant and the client_id of each client that is disabled, or was disabled since its last known
    commit; and with the name (`named_role.as_client`) of each role that is revoked, or was.
    """

    def __init__(self, log: Log, keyring: Keyring, voided: Callable[[str, str], None] = _ignore) -> None:
        self._log = log
        self._keyring = keyring
        self._tenants: dict[str, Tenant] = {}
        self.blocked_subjects = BlockedSubjects(log)
        self.current_until = float("-inf")
        self._voided = voided
        self._applied_seq = 0
        self._applied_more = asyncio.Condition()
        self.ready = asyncio.Event()

    def tenants(self) -> list[Tenant]:
        """The tenants whose settings are known."""
        return [tenant for tenant in self._tenants.values() if tenant.configured is not None]

    def void_until(self, tenant: str, client_id: str) -> datetime | None:
        """Connections of this client or role that began before this time are void, as far as is known here."""
        known = self._tenants.get(tenant)
        if known is None:
            return None
        role = as_client("")
        of_role = known.roles.get(client_id.removeprefix(role)) if client_id.startswith(role) else None
        one = of_role or known.clients.get(client_id)
        return one.void_until if one is not None else None

    def roles(self, tenant: str) -> dict[str, TenantRole]:
        """The tenant's roles by name, as far as they are known here; revoked ones too."""
        known = self._tenants.get(tenant)
        return known.roles if known is not None else {}

    def max_connections(self, tenant: str, client_id: str) -> int | None:
        """How many connections this client or role may have, as far as is known here."""
        if (of_role := bound_of_role(tenant, client_id)) is not None:
            return of_role
        client = self.known_client(tenant, client_id)
        return client.rules.max_connections if client is not None else None

    def known_tenant(self, name: str) -> Tenant | None:
        """The tenant, from memory alone."""
        return self._tenants.get(name)

    def known_client(self, tenant: str, client_id: str) -> Client | None:
        """The client, from memory alone."""
        known = self._tenants.get(tenant)
        return known.clients.get(client_id) if known is not None else None

    async def tenant(self, name: str) -> Tenant | None:
        """The tenant, from memory or else from the log's leader. Raises `Unavailable`."""
        tenant = self._tenants.get(name)
        if tenant is not None and tenant.configured is not None and tenant.signing is not None and self.is_current():
            return tenant
        if not aggregate_names.TENANT.fullmatch(name):
            return None
        stored = (await self._log.head(aggregate_names.tenant(name))).stored
        if stored is None:
            return None
        self.apply(stored)
        await self.wait_for_keys(name)
        return self._tenants[name]

    async def wait_for_keys(self, tenant: str) -> None:
        """Return when every key that the tenant has in the log is applied here. Raises `Unavailable`."""
        newest = await self._log.newest(aggregate_names.key(tenant, "*").filter)
        if newest is None:
            return
        await self.catch_up(newest.seq)  # the newest commit alone may be about a key that does not sign

    async def catch_up(self, seq: int) -> None:
        """Wait as `wait_until_applied` does, for at most `CATCH_UP_SECONDS`. Raises `Unavailable` after that."""
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self.wait_until_applied(seq)
        except TimeoutError as error:
            raise Unavailable("this replica is behind the log") from error

    async def client(self, tenant: Tenant, client_id: str) -> Client | None:
        """The client, from memory or else from the log's leader. Raises `Unavailable`."""
        client = tenant.clients.get(client_id)
        if (client is not None and self.is_current()) or not aggregate_names.CLIENT_ID.fullmatch(client_id):
            return client
        stored = (await self._log.head(aggregate_names.client(tenant.name, client_id))).stored
        if stored is not None:
            self.apply(stored)
        return tenant.clients.get(client_id)

    async def follow(self, connection: Connection, failed: Callable[[BaseException], None]) -> None:
        """Apply every registry commit, for ever; set `ready` when all that was in the log at the start is applied.

        Calls `failed` with whatever ends this: `UnreadableCommit`, `KeyMismatch`, `KeyringError`, or a fault of ours.
        """
        try:
            async for batch in read(connection, filters=aggregate_names.REGISTRY, last_per_subject=True):
                for stored in batch.messages:
                    await self._apply_last(stored)
                if batch.messages:
                    async with self._applied_more:
                        self._applied_seq = batch.messages[-1].seq
                        self._applied_more.notify_all()
                if batch.pending == 0:
                    self.ready.set()
        except Exception as error:
            failed(error)  # without this commit, every later decision would be a guess

    async def _apply_last(self, stored: StoredMessage) -> None:
        """Apply a subject's last message. Where it is foreign, the aggregate's last commit may lie below it."""
        if not isinstance(read_commit(stored), Foreign):
            self.apply(stored)
            return
        aggregate = aggregate_on(stored.subject)
        while aggregate is not None:
            try:
                head = await self._log.head(aggregate)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if head.stored is not None and (stored.subject != BOOK or head.stored.seq < stored.seq):
                self.apply(head.stored)  # a later book is announced when all that comes before it is applied
            name = AggregateName.parse(stored.subject)
            if name.kind == "subject":
                self.blocked_subjects.apply(name.tenant, name.id, head)  # a family may begin on what lies there now
            return

    async def wait_until_applied(self, seq: int) -> None:
        """Return when every registry commit up to `seq` is applied; `seq` is the sequence of one, or 0."""
        async with self._applied_more:
            await self._applied_more.wait_for(lambda: self._applied_seq >= seq)

    def is_current(self) -> bool:
        """Whether this replica may decide on its memory without asking the log."""
        return asyncio.get_running_loop().time() < self.current_until

    def apply(self, stored: StoredMessage) -> None:
        """Apply one registry commit. One that is not newer than its aggregate's last applied one changes nothing.

        Raises `UnreadableCommit`, `KeyMismatch` and `KeyringError`.
        """
        commit = read_commit(stored)
        if isinstance(commit, Foreign):
            return
        name = AggregateName.parse(stored.subject)
        if name.kind == "book":
            self._log.announced = max(self._log.announced, commit.state, key=BookState.age)
            return
        tenant = self._tenants.get(name.tenant)
        if tenant is None:
            tenant = self._tenants[name.tenant] = Tenant(name.tenant, self._keyring)
        tenant.public_replies.clear()
        match name.kind:
            case "tenant":
                tenant.apply_settings(stored)
            case "client":
                if tenant.apply_client(name.id, stored):
                    self._voided(tenant.name, name.id)
            case "key":
                tenant.apply_key(name.id, stored)
            case "subject":
                self.blocked_subjects.apply(name.tenant, name.id, Head(stored, commit, stored.seq))
            case "role":
                if tenant.apply_role(name.id, stored):
                    self._voided(tenant.name, as_client(name.id))
