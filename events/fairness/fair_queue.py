"""Decides whose request is served next when there are more than can be worked on at once (ADR 0032).

Tenants take turns, and within a tenant its clients; the requests of one client are served in their order. So a client
with few requests waits at most for one request of each other client, however many more those have waiting. A client
that is alone may have more requests worked on at once, as it keeps nobody waiting.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sized
from contextlib import asynccontextmanager
from typing import Generic, NamedTuple, TypeAlias, TypeVar

Work = TypeVar("Work")
Counted = TypeVar("Counted")
Queue = TypeVar("Queue", bound=Sized)

Requester: TypeAlias = tuple[str, str]
"""The names of a tenant and of its client."""


class Limits(NamedTuple):
    """How many requests are worked on at once, and how many wait: in all, of one tenant, and of one client.

    `alone` is the number that is worked on at once for a requester that is alone, if that is more.
    """

    at_once: int
    of_tenant: int
    of_client: int
    waiting: int
    waiting_of_tenant: int
    waiting_of_client: int
    alone: int = 0


class FairQueue(Generic[Work]):
    """Counts the requests under way, and keeps those that wait.

    After each `ended`, the caller begins what `take_next` returns, until it returns None. Then no request waits that
    could begin within the limits, except those of a requester that has become alone since.
    """

    def __init__(self, limits: Limits, alone: Callable[[], Requester | None] = lambda: None) -> None:
        """`alone` returns the only active requester; None if there are several."""
        self._limits = limits
        self._alone = alone
        self._of_tenant: dict[str, int] = {}
        self._of_client: dict[Requester, int] = {}
        self._waiting: dict[str, dict[str, deque[Work]]] = {}
        """In the order of turns: tenants, and each tenant's clients."""
        self._waiting_of: dict[str, int] = {}
        self.under_way = 0
        self.waiting = 0

    def try_begin(self, requester: Requester) -> bool:
        """Begin a request if it may begin now: it counts as under way until `ended`. False if it may not."""
        tenant, client = requester
        if self.waiting and client in self._waiting.get(tenant, ()):
            return False
        return self._try_begin(requester)

    def _try_begin(self, requester: Requester) -> bool:
        tenant, _ = requester
        of_tenant, of_client = self._of_tenant.get(tenant, 0), self._of_client.get(requester, 0)
        limits = self._limits
        within = self.under_way < limits.at_once and of_tenant < limits.of_tenant and of_client < limits.of_client
        if not within and (self.under_way >= limits.alone or requester != self._alone()):
            return False
        self.under_way += 1
        self._of_tenant[tenant], self._of_client[requester] = of_tenant + 1, of_client + 1
        return True

    def try_queue(self, requester: Requester, work: Work) -> bool:
        """Queue `work`, which could not begin; False without room. A requester with nothing queued always has room."""
        tenant, client = requester
        limits, of_tenant = self._limits, self._waiting_of.get(tenant, 0)
        queue = self._waiting.setdefault(tenant, {}).setdefault(client, deque())
        if queue and (
            self.waiting >= limits.waiting
            or of_tenant >= limits.waiting_of_tenant
            or len(queue) >= limits.waiting_of_client
        ):
            return False
        queue.append(work)
        self.waiting += 1
        self._waiting_of[tenant] = of_tenant + 1
        return True

    def ended(self, requester: Requester) -> None:
        """Count one of the requester's requests as ended."""
        tenant, _ = requester
        self.under_way -= 1
        _less(self._of_tenant, tenant)
        _less(self._of_client, requester)

    def take_next(self) -> tuple[Requester, Work] | None:
        """Take out the next request that may begin; None without one. Its client and tenant go to the end of the order.

        Tenants and clients at their limits are skipped. There can be no more of them than requests are under way.
        """
        limits = self._limits
        if self.under_way < limits.at_once:
            for tenant, clients in self._waiting.items():
                if self._of_tenant.get(tenant, 0) < limits.of_tenant:
                    for client in clients:
                        if self._try_begin((tenant, client)):
                            return self._next_of(tenant, client)
        alone = self._alone()
        if alone is not None and alone[1] in self._waiting.get(alone[0], ()) and self._try_begin(alone):
            return self._next_of(*alone)
        return None

    def _next_of(self, tenant: str, client: str) -> tuple[Requester, Work]:
        clients = self._waiting[tenant]
        work = clients[client].popleft()
        self.waiting -= 1
        _less(self._waiting_of, tenant)
        _to_the_end(clients, client)
        _to_the_end(self._waiting, tenant)
        return (tenant, client), work


def _less(counts: dict[Counted, int], key: Counted) -> None:
    """Subtract one, and remove the key at zero."""
    if counts[key] > 1:
        counts[key] -= 1
    else:
        del counts[key]


def _to_the_end(queues: dict[str, Queue], name: str) -> None:
    """Move a queue to the end of the order, or remove it if it is empty."""
    queue = queues.pop(name)
    if queue:
        queues[name] = queue


class NoRoom(Exception):
    """The requester has as many requests waiting as it may."""


class Turns:
    """A fair queue for coroutines: `async with turns.of(requester)` is entered in its turn."""

    def __init__(self, limits: Limits) -> None:
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(limits)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._queue.waiting

    @asynccontextmanager
    async def of(self, requester: Requester) -> AsyncIterator[None]:
        """Wait for the requester's turn, and hold it during the block. Raises `NoRoom`."""
        if not self._queue.try_begin(requester):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if not self._queue.try_queue(requester, turn):
                raise NoRoom
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # the turn came in the same moment
                    self._pass_on(requester)
                raise
        try:
            yield
        finally:
            self._pass_on(requester)

    def _pass_on(self, requester: Requester) -> None:
        self._queue.ended(requester)
        while (taken := self._queue.take_next()) is not None:
            next_requester, turn = taken
            if turn.done():  # the one that waited may have been cancelled
                self._queue.ended(next_requester)
            else:
                turn.set_result(None)
