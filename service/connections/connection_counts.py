"""How many connections each client has on all servers of the broker, and each person with a token of a client.

The servers are asked twice a second while connections open here, and else every seven seconds: connections may have
opened through another replica, which may be gone (`service.connections.token_connections`). Until the servers reply,
the connections that this replica has admitted since the count before also count. A connection beyond the bound waits
for the next count, since others may have ended. Several replicas may at once admit more than the bound: then the
newest connections are ended, in the servers' order, which is the same for every replica.
"""

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from events.task_set import TaskSet
from service.connections.disconnect import ADMISSIONS_SETTLED_SECONDS, Listed
from service.connections.token_connections import AS_PERSON, TokenConnection
from service.registry.broker_accounts import PERSONS_ACCOUNT
from service.registry.named_role import as_client

log = logging.getLogger("heirloom.callout")

COUNT_PAUSE_SECONDS = 0.5
"""The pause between two counts, and the time that the servers have to reply."""

MAX_CONNECTIONS_OF_PERSON = 5
"""Connections of one person's grant, whichever of its tokens opened them."""
MAX_WAITING = 4
"""Connections of one client that wait for a count, so that no other client's wait behind them."""


class Who(NamedTuple):
    """Whose connections are counted together: a client's, a role's or a person's, by a name in `client_id`."""

    tenant: str
    client_id: str

    @classmethod
    def of(cls, listed: Listed) -> "Who":
        """Whose connection it is: a person's in that account, else the client's, even if a token opened it."""
        tenant, _, rest = listed.user.partition("/")
        if listed.account == PERSONS_ACCOUNT and (token_connection := TokenConnection.of(listed.user)) is not None:
            return cls(tenant, token_connection.person)
        return cls(tenant, rest.partition("/")[0])

    def counts_as(self) -> tuple["Who", ...]:
        """The counts to which it adds: its own, and for a named role also that of all the tenant's named roles."""
        return (self, Who(self.tenant, as_client(""))) if self.client_id.startswith(as_client("")) else (self,)


class Lists(Protocol):
    """Lists the servers' connections, and ends one."""

    async def list_all(self, receive: Callable[[Listed], None]) -> None:
        """Ask for all connections: `receive` is called with each one."""

    async def kick(self, listed: Listed) -> None:
        """End one connection."""


class ConnectionCounts:
    """Counts connections, and ends those beyond the bound.

    `bound` gives how many a client may have, None for an unknown one. `listed` is called with each connection that the
    servers list.
    """

    def __init__(
        self, connections: Lists, bound: Callable[[str, str], int | None], listed: Callable[[Listed], None]
    ) -> None:
        self._connections = connections
        self._bound = bound
        self._listed = listed
        self._counted: Counter[Who] = Counter()
        self._before: Counter[Who] = Counter()
        self._since: Counter[Who] = Counter()
        """`_before`: admitted during the last finished count. `_since`: admitted since the current one began."""
        self._found: dict[tuple[str, int], Listed] = {}
        self._stale = asyncio.Event()
        self._waiting: Counter[Who] = Counter()
        self._begun = self._ended = 0
        self._is_stopped = False
        self._counted_anew = asyncio.Condition()
        self._tasks = TaskSet()

    async def start(self) -> None:
        """Count the connections, again and again."""
        self._tasks.start(self._count_for_ever())

    async def stop(self) -> None:
        """Count no more. Connections that wait for a count, or come later, are judged by the last one."""
        await self._tasks.cancel()
        async with self._counted_anew:
            self._is_stopped = True
            self._counted_anew.notify_all()

    def try_take(self, tenant: str, client_id: str) -> bool:
        """Count one more connection of the client; False if it has too many by the last count."""
        who = Who(tenant, client_id)
        self._stale.set()
        if any(self._is_full(one) for one in who.counts_as()):
            return False
        self._since.update(who.counts_as())
        return True

    async def try_take_later(self, tenant: str, client_id: str) -> bool:
        """As `try_take`, by a count that begins after now. False at once if too many of the client wait already."""
        who = Who(tenant, client_id)
        if self._waiting[who] >= MAX_WAITING:
            return False
        begun = self._begun
        self._waiting[who] += 1
        try:
            async with self._counted_anew:
                await self._counted_anew.wait_for(lambda: self._ended > begun or self._is_stopped)
        finally:
            self._waiting[who] -= 1
            if not self._waiting[who]:
                del self._waiting[who]
        return self.try_take(tenant, client_id)

    def _may_have(self, who: Who) -> int | None:
        return MAX_CONNECTIONS_OF_PERSON if who.client_id.startswith(AS_PERSON) else self._bound(*who)

    def _is_full(self, who: Who) -> bool:
        bound = self._may_have(who)
        return bound is not None and self._counted[who] + self._before[who] + self._since[who] >= bound

    def _note(self, listed: Listed) -> None:
        self._found[listed.server, listed.cid] = listed
        self._listed(listed)

    async def _count_for_ever(self) -> None:
        while True:
            self._found, self._before, self._since = {}, self._since, Counter()
            self._stale.clear()
            self._begun += 1
            await self._connections.list_all(self._note)
            await asyncio.sleep(COUNT_PAUSE_SECONDS)
            await self._end_excess()
            async with self._counted_anew:
                self._ended = self._begun
                self._counted_anew.notify_all()
            if self._waiting:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ADMISSIONS_SETTLED_SECONDS):
                    await self._stale.wait()

    async def _end_excess(self) -> None:
        theirs: defaultdict[Who, list[Listed]] = defaultdict(list)
        for listed in self._found.values():
            for who in Who.of(listed).counts_as():
                theirs[who].append(listed)
        self._counted, self._before = Counter({who: len(found) for who, found in theirs.items()}), Counter()
        for who, found in theirs.items():
            bound = self._may_have(who)
            if bound is None or len(found) <= bound:
                continue
            log.warning(
                "a client has more connections than it may: the newest are ended",
                extra={"tenant": who.tenant, "client": who.client_id, "count": len(found), "bound": bound},
            )
            for listed in sorted(found, key=lambda one: (one.start, one.server, one.cid))[bound:]:
                await self._connections.kick(listed)
            self._stale.set()
