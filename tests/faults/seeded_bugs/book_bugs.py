"""Seeded bugs of the log's books (ADR 43): each forgets one rule."""

from typing import Any

from msgspec.structs import replace

from events.log import appender, closing
from events.log.appender import Found
from events.log.books import Book
from events.log.log import Log
from service.families.cache import Key, LoadedFamily
from service.families.families import Families
from tests.faults.harness.orders import put


def carried_twice() -> None:
    """A cached family of a closed book is carried over without being read again."""

    def cached(self: Families, key: Key) -> LoadedFamily | None:
        known, newest = self.cache.get(key), self._log.books.newest
        if known is None or known.seq >= newest.first:
            return known
        return replace(known, is_carried_over=True, stream=newest.stream)

    put(Families, "_cached", cached)


def closed_book_believed() -> None:
    """A replica that slept through a closing answers from the book that it knows."""

    async def certain(_self: Log) -> None:
        pass

    put(Log, "_be_certain", certain)


def guard_forgotten() -> None:
    """A commit that expects nothing does not name its book."""
    expectation = appender._expectation

    def unnamed(append: Any) -> dict[str, str]:
        return {name: value for name, value in expectation(append).items() if name != "Nats-Expected-Stream"}

    put(appender, "_expectation", unnamed)


def sequence_reused() -> None:
    """The next book begins where the closed one ended a moment before it was left."""
    every_copy_has = closing._every_copy_has

    async def early(connection: Any, book: Book, *, sealed: bool) -> int:
        return await every_copy_has(connection, book, sealed=sealed) - 1

    put(closing, "_every_copy_has", early)


def lost_acknowledgement_in_the_open_book() -> None:
    """What became of a commit is looked for in the newest book alone."""

    async def newest_alone(self: Log, filter: str, after: int, place: tuple[int, str]) -> Found:
        await self.look()
        newest = self.books.newest
        found = await self._next_in(filter, after, newest.stream)
        seq, stream = place
        is_late = newest.stream != (self.books.with_sequence(seq).stream if seq else stream)
        return Found(None if found is None else (found.seq, found.body), is_late)

    put(Log, "_find_next", newest_alone)
