"""One refresh, by the store: what other processes have done is adopted, and only what it holds is presented."""

import asyncio
import random
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from heirloom_client import clock
from heirloom_client.endpoint import Endpoints
from heirloom_client.errors import Error, InvalidGrant, InvalidRequest, StoreError, Unavailable
from heirloom_client.link import Link
from heirloom_client.record import WHOLE, Access, Record, Target, after, begin, idempotency_key, origin_of
from heirloom_client.stores.store import Store, Stored
from heirloom_client.tokens import Hidden, Tokens

PAUSE_SECONDS = 0.05
SETTLE_SECONDS = 0.2
"""Between two redemptions: a copy of the first that is still on its way would look like a theft after the second."""
ENOUGH_REDEMPTIONS = 2
"""The first may repeat one whose answer was lost, and get an access token that is old already."""


Generation: TypeAlias = tuple[str, int]


MAX_CLASHES = 4
"""Beyond these the request itself is invalid, and no other process has presented the token with another one."""


class Refreshed(Hidden, frozen=True):
    """An access token, and until when it is good on this process's monotonic clock."""

    access: Access
    ends: float
    refresh_token: str


class Refresher:
    """Refreshes the family that a store holds. `first` begins it, unless the store has it already."""

    def __init__(self, endpoints: Endpoints, store: Store, first: Tokens | None) -> None:
        self._endpoints = endpoints
        self._store = store
        self._first = first
        self._since = clock.now()

    async def refresh(self, target: Target, good: Callable[[Refreshed], bool]) -> Refreshed:
        """An access token for the target: the store's if it is `good`, otherwise a new one, stored before it is given.

        Raises `InvalidGrant` when the family has ended, `StoreError`, `Unavailable` when time is over, and what the
        service refuses.
        """
        attempt = _Attempt(target, good, clock.monotonic() + self._endpoints.seconds)
        async with self._store.turn():
            while True:
                link = await self._endpoints.link()  # before the store is read, so that nothing grows old meanwhile
                stored = await self._read()
                if (found := attempt.enough(stored.record)) is not None:
                    return found
                asked = await self._agree(stored, attempt)
                if asked is None:
                    continue
                now = clock.now()
                try:
                    tokens = await self._send(link, stored.record, asked)
                except Error as error:
                    await self._handle(error, stored, asked, attempt)
                    continue
                record = await self._write(stored.record, asked, tokens, now)
                attempt.redeemed += asked == target
                if (found := attempt.enough(record)) is not None:
                    return found

    async def _read(self) -> Stored:
        """What the store holds, begun with `first` where it holds another family. Raises `StoreError` for nothing."""
        while True:
            stored = await self._store.read()
            if self._first is None or (stored is not None and stored.record.origin == origin_of(self._first)):
                break
            record = begin(stored.record if stored is not None else None, self._first, self._since)
            await self._store.swap(record, stored.revision if stored is not None else 0)
        self._first = None  # once: what another login has stored since is not replaced
        if stored is None:
            raise StoreError(f"{self._store!r} holds no token: log in, and give the tokens to source()")
        return stored

    async def _agree(self, stored: Stored, attempt: "_Attempt") -> Target | None:
        """The request for this refresh token, the same for all processes; None after a change: read again.

        A key may have one body. So whoever wants other than the usual one writes that down before, and the others carry
        it out first. Raises `InvalidGrant` for a refresh token that was refused.
        """
        record = stored.record
        if record.generation == attempt.refused:
            raise InvalidGrant("the family has ended: log in again", status=400)
        left = record.redeemed_at + SETTLE_SECONDS - clock.now()
        if left > 0 and attempt.must_settle(record.generation):
            await asyncio.sleep(min(left, SETTLE_SECONDS))
            return None
        if record.pending is None and attempt.target != WHOLE:
            await self._store.swap(_with_pending(record, attempt.target), stored.revision)
            return None
        asked = record.pending or WHOLE
        return WHOLE if (record.generation, asked) in attempt.clashed else asked

    async def _handle(self, error: Error, stored: Stored, asked: Target, attempt: "_Attempt") -> None:
        """Prepare for another look at the store. Raises the error where none can help."""
        generation = stored.record.generation
        if isinstance(error, InvalidGrant):
            attempt.refused = generation  # another process may have been first
        elif isinstance(error, Unavailable):
            await attempt.wait(error)
        elif isinstance(error, InvalidRequest) and attempt.may_clash(generation, asked):
            attempt.clashed.add((generation, asked))  # it was presented before, with another body
        else:
            await self._withdraw(stored)
            if asked == attempt.target or isinstance(error, InvalidRequest):
                raise error

    async def _send(self, link: Link, record: Record, asked: Target) -> Tokens:
        parameters = {
            "grant_type": "refresh_token",
            "refresh_token": record.refresh_token,
            "scope": asked.scope,
            "resource": asked.resource,
        }
        seconds, key = self._endpoints.seconds, idempotency_key(record)
        return await self._endpoints.send(link, "token", parameters, Tokens, key=key, seconds=seconds)

    async def _write(self, presented: Record, asked: Target, tokens: Tokens, now: float) -> Record:
        """Store the successor, unless the store has it or a later one. The record that the store holds then."""
        while True:
            current = await self._read()
            record = after(current.record, presented, asked, tokens, now)
            if record == current.record or await self._store.swap(record, current.revision):
                return record

    async def _withdraw(self, stored: Stored) -> None:
        """Take back the request that was refused, so that others do not wait for it."""
        if stored.record.pending is not None:
            await self._store.swap(_with_pending(stored.record, None), stored.revision)


class _Attempt:
    """What is wanted, and what has come of it so far. Times are of the monotonic clock."""

    def __init__(self, target: Target, good: Callable[[Refreshed], bool], deadline: float) -> None:
        self.target = target
        self.refused: Generation | None = None
        self.clashed: set[tuple[Generation, Target]] = set()
        self.redeemed = 0
        self._settled: Generation | None = None
        self._good = good
        self._deadline = deadline
        self._pause = PAUSE_SECONDS

    def enough(self, record: Record) -> Refreshed | None:
        """The record's access token, if it is good, or as good as can be had."""
        access = record.access.get(self.target.name)
        if access is None:
            return None
        # a clock that is wrong makes no token live longer than it was given for
        left = min(access.expires_at - clock.now(), access.expires_in)
        found = Refreshed(access, clock.monotonic() + left, record.refresh_token)
        return found if self._good(found) or self.redeemed >= ENOUGH_REDEMPTIONS else None

    def must_settle(self, generation: Generation) -> bool:
        """True once for a generation: beside a clock that runs behind, a second wait would be followed by a third."""
        before, self._settled = self._settled, generation
        return before != generation

    def may_clash(self, generation: Generation, asked: Target) -> bool:
        """Whether another body may still be the right one."""
        return (generation, asked) not in self.clashed and len(self.clashed) < MAX_CLASHES

    async def wait(self, error: Unavailable) -> None:
        """A growing pause. Raises the error when time is over."""
        if clock.monotonic() + self._pause > self._deadline:
            raise error
        await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311  # no secret
        self._pause *= 2


def _with_pending(record: Record, pending: Target | None) -> Record:
    return msgspec.structs.replace(record, pending=pending)
