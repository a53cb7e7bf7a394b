"""How many connections each client has, on every server of the broker, and each person with a token of one.

The servers are asked twice a second after somebody has come here, and every seven seconds where nobody has: somebody
may have come to another replica, which may be gone (`service.connections.token_connections`). Until they have answered,
those that this one has let in since they were asked before count as well; whoever would be too many by that waits for
what they say next, since some may have left. What several replicas let in at the same moment can be more than the
bound: the newest are then ended, by the servers' own order, which is the same to every replica.
"""

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from events.task_set import TaskSet
from service.connections.disconnect import ADMISSIONS_SETTLED_SECONDS, PERSONS_ACCOUNT, Listed
from service.connections.token_connections import AS_PERSON, TokenConnection
from service.registry.named_role import as_client

log = logging.getLogger("heirloom.callout")

ASK_SECONDS = 0.5
"""Between two questions; so long the servers have to answer one, as well."""

MOST_OF_PERSON = 5
"""Connections of one person's grant, whichever of its tokens opened them."""
WAITING = 4
"""Of one client, so that nobody else's connections wait behind it."""


class Who(NamedTuple):
    """A client, or somebody else of the tenant's, under a name that no client has: a role's, or a person's."""

    tenant: str
    client_id: str

    @classmethod
    def of(cls, listed: Listed) -> "Who":
        """Whom the broker's user acts for: its client, whatever token of its own it came with, or a person."""
        tenant, _, rest = listed.user.partition("/")
        if listed.account == PERSONS_ACCOUNT and (token_connection := TokenConnection.of(listed.user)) is not None:
            return cls(tenant, token_connection.person)
        return cls(tenant, rest.partition("/")[0])

    def counts_as(self) -> tuple["Who", ...]:
        """Itself, and for a role by its name all names of the tenant together."""
        return (self, Who(self.tenant, as_client(""))) if self.client_id.startswith(as_client("")) else (self,)


class Lists(Protocol):
    """Asks the servers, and ends what they have."""

    async def list_all(self, receive: Callable[[Listed], None]) -> None:
        """Ask for all connections: `receive` is called with each one."""

    async def kick(self, listed: Listed) -> None:
        """End one."""


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
        """Who was let in while the count that is known now was made, and since the one under way began."""
        self._found: dict[tuple[str, int], Listed] = {}
        self._stale = asyncio.Event()
        self._waiting: Counter[Who] = Counter()
        self._begun = self._ended = 0
        self._is_stopped = False
        self._told = asyncio.Condition()
        self._tasks = TaskSet()

    async def start(self) -> None:
        """Count those there are, and go on counting."""
        self._tasks.start(self._count_for_ever())

    async def stop(self) -> None:
        """Count no more. Who waits for a count, or comes yet, is judged by what is known."""
        await self._tasks.cancel()
        async with self._told:
            self._is_stopped = True
            self._told.notify_all()

    def takes(self, tenant: str, client_id: str) -> bool:
        """Whether the client may have one more, by what is known now; if so, it is counted."""
        who = Who(tenant, client_id)
        self._stale.set()
        if any(self._is_full(one) for one in who.counts_as()):
            return False
        self._since.update(who.counts_as())
        return True

    async def takes_later(self, tenant: str, client_id: str) -> bool:
        """As `takes`, by a count that begins later than now. Where as many wait as may, nobody else does."""
        who = Who(tenant, client_id)
        if self._waiting[who] >= WAITING:
            return False
        begun = self._begun
        self._waiting[who] += 1
        try:
            async with self._told:
                await self._told.wait_for(lambda: self._ended > begun or self._is_stopped)
        finally:
            self._waiting[who] -= 1
            if not self._waiting[who]:
                del self._waiting[who]
        return self.takes(tenant, client_id)

    def _may_have(self, who: Who) -> int | None:
        return MOST_OF_PERSON if who.client_id.startswith(AS_PERSON) else self._bound(*who)

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
            await asyncio.sleep(ASK_SECONDS)
            await self._end_excess()
            async with self._told:
                self._ended = self._begun
                self._told.notify_all()
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
