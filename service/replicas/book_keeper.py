"""Closes the log's books: by order, or because one is large. Any replica may, and goes on where another stopped.

The open book's commit `BookClosing` is the order. When no replica decides without knowing it (the barrier of ADR 4),
the book is put away and the next one made (`events.log.closing`), whose commit `BookOpened` ends it (ADR 43).
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import NamedTuple, TypeVar

from nats.errors import Error as NatsError

from events.aggregates import aggregate_names
from events.aggregates.book import FIRST_BOOK, BookClosing, BookEvent, BookOpened, BookState
from events.bus.connection import Connection
from events.log.books import Book, is_put_away, missing, stream_info, stream_of
from events.log.closing import close_book, expect_room
from events.log.jetstream_api import JetStreamMissing, Unavailable
from events.log.log import Log
from events.log.stream import WeakStream
from service.registry.change_aggregate import change
from service.replicas.leases import Replicas

log = logging.getLogger("heirloom.books")

T = TypeVar("T")

BOOKS = aggregate_names.book()
ACTOR = "book-keeper"
CHECK_SECONDS = 1.0
SIZE_SECONDS = 30.0
"""Between two looks at the size of the open book."""
TAKE_OVER_SECONDS = 10.0
"""How long a closing may be under way before another replica goes on with it."""
CLOSING_SECONDS = 25.0
DEFAULT_SUBJECTS, DEFAULT_BYTES = 1_000_000, 4 << 30
MIN_SUBJECTS = 1_000


class BookLimits(NamedTuple):
    """How many subjects and bytes (in one copy) the open book may have before it is closed."""

    subjects: int = DEFAULT_SUBJECTS
    bytes: int = DEFAULT_BYTES


class BookKeeper:
    """One replica's part in closing books."""

    def __init__(self, connection: Connection, log: Log, replicas: Replicas, limits: BookLimits) -> None:
        self._connection = connection
        self._log = log
        self._replicas = replicas
        self._limits = limits

    async def close(self, actor: str = ACTOR, number: int | None = None) -> BookState:
        """Close the open book, if it is that of the `number`; returns the state of the one that is open then.

        Raises `Unavailable`; then the closing may have begun, and is completed later.
        """
        await self._in_time(self._begin(actor, number))
        return await self.go_on()

    async def go_on(self) -> BookState:
        """Complete a closing that has begun, if one has; returns the state of the newest book. Raises `Unavailable`."""
        return await self._in_time(self._go_on())

    async def _begin(self, actor: str, number: int | None) -> None:
        state = await self._state()
        if not state.closing:
            await expect_room(self._connection, _book_of(state))
        asked = state.number if number is None else number
        await change(self._log, BOOKS, lambda now: _closing(now, asked), actor=actor)

    async def _in_time(self, closing: Coroutine[None, None, T]) -> T:
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                return await closing
        except WeakStream as error:
            log.error("the book cannot be closed: %s", error)
            raise Unavailable(str(error)) from error
        except (JetStreamMissing, NatsError, TimeoutError) as error:
            raise Unavailable(f"the book is not closed yet, and will be: {error or 'it takes long'}") from error

    async def watch(self) -> None:
        """Go on with closings that others began and did not end, and close the book once it is large; for ever."""
        time = asyncio.get_running_loop().time
        closing_since, look_at = time(), time()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                if not self._log.announced.closing:
                    closing_since = time()
                elif time() - closing_since > TAKE_OVER_SECONDS:
                    closing_since = time()
                    await self.go_on()
                if time() >= look_at:
                    look_at = time() + SIZE_SECONDS
                    announced = self._log.announced
                    if not announced.closing and await self.is_due():
                        await self.close(number=announced.number)
            except (Unavailable, NatsError) as error:
                log.info("a book waits to be closed: %s", error)

    async def is_due(self) -> bool:
        """Whether the open book is as large as a book may be. Raises `Unavailable`."""
        try:
            state = (await self._log.books.look())["state"]
        except JetStreamMissing as error:
            raise Unavailable(str(error)) from error
        return bool(state.get("num_subjects", 0) >= self._limits.subjects or state["bytes"] >= self._limits.bytes)

    async def _go_on(self) -> BookState:
        head = await self._log.head(BOOKS)
        state: BookState = head.commit.state if head.commit is not None else FIRST_BOOK
        if not state.closing or head.stored is None:
            return state
        if self._log.announced.number > state.number:
            raise missing(stream_of(self._log.announced.number))
        book = _book_of(state)
        info = await stream_info(self._connection, book.stream)
        if info is not None and not is_put_away(info["config"]):
            await self._replicas.barrier(head.stored.seq, of_every_version=True)
        opened = await close_book(self._connection, book)
        await self._log.look()
        written = await change(self._log, BOOKS, lambda state: _opened(state, opened), actor=ACTOR)
        if written.changed:
            log.info("a book is closed, and the next one open", extra={"seq": opened.first, "book": opened.number})
        return await self._state()

    async def _state(self) -> BookState:
        commit = (await self._log.head(BOOKS)).commit
        state: BookState = commit.state if commit is not None else FIRST_BOOK
        return state


def _book_of(state: BookState) -> Book:
    return Book(state.number, stream_of(state.number), state.first)


def _closing(state: BookState | None, number: int) -> tuple[BookEvent, ...]:
    state = state or FIRST_BOOK
    return () if state.closing or state.number != number else (BookClosing(number),)


def _opened(state: BookState | None, opened: Book) -> tuple[BookEvent, ...]:
    state = state or FIRST_BOOK
    return () if state.number >= opened.number else (BookOpened(opened.number, opened.first),)
