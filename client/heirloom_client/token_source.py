"""A source of access tokens: fresh ones at once, stale ones too while another is fetched, and one refresh for all."""

import asyncio
import logging
import random
import threading
import weakref
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Self

import msgspec

from heirloom_client import clock
from heirloom_client.endpoint import Endpoints
from heirloom_client.errors import Error
from heirloom_client.fork import renew
from heirloom_client.record import Target, target
from heirloom_client.refresher import Refreshed, Refresher
from heirloom_client.stores.store import Store
from heirloom_client.tokens import Tokens

log = logging.getLogger("heirloom_client")

STALE_SECONDS, STALE_SHARE, LARGEST_SHARE = 10.0, 0.2, 0.5
"""An access token is stale so long before its end, or this share of its life; never the larger half of it."""
AGAIN_SECONDS = 5.0
"""After a failure, the next refresh in the background."""
REMEMBERED = 100
"""Rejected tokens, and changes that nobody has taken yet."""


class Held(NamedTuple):
    """What is handed out; both times are of the monotonic clock."""

    tokens: Tokens
    stale: float
    ends: float


class _Flight(NamedTuple):
    """A refresh under way, and the event loop that it runs on."""

    result: "Future[Held]"
    loop: asyncio.AbstractEventLoop


class _Interrupted(Exception):
    """The event loop that ran the refresh has ended."""


class Shared:
    """What all sources of one store in this process share."""

    def __init__(self) -> None:
        self.held: dict[Target, Held] = {}
        self.rejected: dict[str, None] = {}
        self.not_before: dict[Target, float] = {}
        self.lifetime = 0.0
        self.after_fork()
        renew(self)

    def after_fork(self) -> None:
        """Refreshes and listeners are the parent's; what is held is as good here."""
        self.lock = threading.Lock()
        self.flights: dict[Target, _Flight] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.listeners: weakref.WeakSet[Changes] = weakref.WeakSet()

    @classmethod
    def of(cls, store: Store) -> "Shared":
        """The one of this store."""
        with _by_store_lock:
            return _by_store.setdefault(store, cls())


_by_store: weakref.WeakKeyDictionary[Store, Shared] = weakref.WeakKeyDictionary()
_by_store_lock = threading.Lock()


class TokenSource:
    """Access tokens of one family. To be shared by tasks, threads and event loops; it holds no lock while it waits."""

    def __init__(self, endpoints: Endpoints, store: Store, first: Tokens | None = None) -> None:
        if first is not None and first.refresh_token is None:
            raise ValueError("these tokens hold no refresh token: ask for the scope offline_access")
        self._store = store
        self._refresher = Refresher(endpoints, store, first)
        self._shared = Shared.of(store)
        if first is not None:
            self._shared.held.clear()

    async def token(
        self, *, min_ttl: float = 1, scope: str | None = None, resource: str | Sequence[str] | None = None
    ) -> Tokens:
        """An access token that is good for at least `min_ttl` seconds (or half its life), without the refresh token.

        `scope` and `resource` narrow what it is for. Raises `InvalidGrant` when the family has ended (log in again),
        `StoreError`, `Unavailable`, and what the service refuses.
        """
        wanted = target(scope, resource)
        while True:
            held, now, needed = self._usable(wanted), clock.monotonic(), self._needed(min_ttl)
            if held is not None and held.ends - now > needed:
                if now >= held.stale and now >= self._shared.not_before.get(wanted, 0):
                    flight, is_own = self._fly(wanted, min_ttl)
                    if is_own:
                        flight.result.add_done_callback(_log_failure)
                return held.tokens
            flight, is_own = self._fly(wanted, min_ttl)
            try:
                # not to be cancelled with the one who waits: others may wait for it too
                held = await asyncio.shield(asyncio.wrap_future(flight.result))
            except _Interrupted:
                continue
            if is_own or held.ends - clock.monotonic() > self._needed(min_ttl):
                return held.tokens

    def rejected(self, token: Tokens | str) -> None:
        """A resource has refused this access token: the next one is newer."""
        text = token if isinstance(token, str) else token.access_token
        with self._shared.lock:
            self._shared.rejected[text] = None
            while len(self._shared.rejected) > REMEMBERED:
                del self._shared.rejected[next(iter(self._shared.rejected))]

    def changes(self) -> "Changes":
        """Every new access token from now on, with its refresh token, for `async for`: also those of other processes.

        The store has it already. Who takes them too slowly misses the oldest.
        """
        changes = Changes()
        with self._shared.lock:
            self._shared.listeners.add(changes)
        return changes

    def _needed(self, min_ttl: float) -> float:
        """No more than half of what access tokens live: more would be a refresh for each call."""
        return min(min_ttl, self._shared.lifetime * LARGEST_SHARE) if self._shared.lifetime else min_ttl

    def _usable(self, wanted: Target) -> Held | None:
        held = self._shared.held.get(wanted)
        return None if held is None or held.tokens.access_token in self._shared.rejected else held

    def _fly(self, wanted: Target, min_ttl: float) -> tuple[_Flight, bool]:
        """The refresh under way for this target, or a new one; and whether it is new."""
        loop = asyncio.get_running_loop()
        with self._shared.lock:
            flight = self._shared.flights.get(wanted)
            if flight is not None and not flight.loop.is_closed():
                return flight, False
            flight = self._shared.flights[wanted] = _Flight(Future(), loop)
            self._keep(loop, self._run(flight, wanted, min_ttl))
        return flight, True

    def _keep(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
        task = loop.create_task(work)
        self._shared.tasks.add(task)
        task.add_done_callback(self._shared.tasks.discard)

    async def _run(self, flight: _Flight, wanted: Target, min_ttl: float) -> None:
        """Refresh, and hand the result to all who wait, on whatever event loop."""

        def good(found: Refreshed) -> bool:
            left = found.ends - clock.monotonic()
            self._shared.lifetime = max(self._shared.lifetime, found.access.expires_in)
            return (
                left > max(self._needed(min_ttl), _margin(found.access.expires_in))
                and found.access.access_token not in self._shared.rejected
            )

        try:
            refreshed = await self._refresher.refresh(wanted, good)
        except asyncio.CancelledError:
            self._land(flight, wanted)
            flight.result.set_exception(_Interrupted())
            raise
        except Exception as error:
            self._shared.not_before[wanted] = clock.monotonic() + AGAIN_SECONDS * random.uniform(0.5, 1)  # noqa: S311  # no secret
            self._land(flight, wanted)
            flight.result.set_exception(error)
        else:
            held = self._hold(wanted, refreshed)
            self._land(flight, wanted)
            flight.result.set_result(held)

    def _land(self, flight: _Flight, wanted: Target) -> None:
        with self._shared.lock:
            if self._shared.flights.get(wanted) is flight:
                del self._shared.flights[wanted]

    def _hold(self, wanted: Target, refreshed: Refreshed) -> Held:
        access, ends = refreshed.access, refreshed.ends
        tokens = Tokens(
            access_token=access.access_token,
            expires_in=access.expires_in,
            scope=access.scope,
            token_type=access.token_type,
            id_token=access.id_token,
        )
        margin = min(_margin(access.expires_in) * random.uniform(1, 1.25), access.expires_in * LARGEST_SHARE)  # noqa: S311  # no secret
        held = Held(tokens, ends - margin, ends)
        before = self._shared.held.get(wanted)
        self._shared.held[wanted] = held
        if before is None or before.tokens.access_token != tokens.access_token:
            changed = msgspec.structs.replace(tokens, refresh_token=refreshed.refresh_token)
            with self._shared.lock:
                listeners = list(self._shared.listeners)
            for listener in listeners:
                listener.put(changed)
        return held

    def __repr__(self) -> str:
        return f"TokenSource({self._store!r})"


class Changes:
    """New tokens, one after another; for one task of the event loop on which it was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Tokens] = asyncio.Queue()

    def put(self, tokens: Tokens) -> None:
        """From any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, tokens)

    def _put(self, tokens: Tokens) -> None:
        if self._queue.qsize() >= REMEMBERED:
            self._queue.get_nowait()
        self._queue.put_nowait(tokens)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Tokens:
        return await self._queue.get()


def _log_failure(result: "Future[Held]") -> None:
    """In the background nobody else hears of it, until the token has ended."""
    error = result.exception()
    if error is not None and not isinstance(error, _Interrupted):
        why = error.code if isinstance(error, Error) else type(error).__name__
        log.warning("an access token is not refreshed yet: %s", why)


def _margin(lifetime: float) -> float:
    """So many seconds before its end an access token of this lifetime is stale."""
    return min(max(STALE_SECONDS, lifetime * STALE_SHARE), lifetime * LARGEST_SHARE)
