"""The books of the log: one stream after another, with one run of sequences (ADR 43).

Only the newest one takes commits. The others are sealed, so what was once found out about them stays true.
"""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from events.aggregates.aggregate_names import STREAM
from events.bus.connection import Connection
from events.log.jetstream_api import NOT_FOUND, JetStreamMissing, request_json


class Book(NamedTuple):
    """One book: its number, from 1, its stream, and its first and last sequence; of the newest one `last` is None."""

    number: int
    stream: str
    first: int
    last: int | None = None

    def holds(self, seq: int) -> bool:
        """Whether that sequence is, or may become, one of this book's."""
        return self.first <= seq and (self.last is None or seq <= self.last)


FIRST = Book(1, STREAM, 1)


def stream_of(number: int) -> str:
    """The name of a book's stream."""
    return STREAM if number == 1 else f"{STREAM}_{number}"


def number_of(stream: str) -> int | None:
    """The number of the book with this stream; None for another stream."""
    number = stream.removeprefix(f"{STREAM}_")
    if stream == STREAM:
        return 1
    return int(number) if number.isdecimal() and stream == stream_of(int(number)) and int(number) > 1 else None


def put_away_as(number: int) -> str:
    """The subject of a book that takes no more commits: a name of its own, on which nobody publishes."""
    return f"heirloom.book.{number}"


class Books:
    """The books of a log as of the last `look`, through one connection. Another `stream` is a book by itself."""

    def __init__(self, connection: Connection, stream: str = STREAM) -> None:
        self._connection = connection
        self._is_log = stream == STREAM
        self._closed: list[Book] = []
        self.newest = FIRST._replace(stream=stream)

    async def look(self) -> dict[str, Any]:
        """Find out which book is the newest; returns what its leader says of it. Raises `JetStreamMissing`.

        Several may look at once: who was overtaken by another looks again, so that no book is found twice.
        """
        while True:
            known = self.newest
            info = await stream_info(self._connection, known.stream)
            if self.newest is not known:
                continue
            if info is None:
                raise missing(known.stream)
            if not self._is_log or not is_put_away(info["config"]):
                return info
            number = known.number + 1
            following = await stream_info(self._connection, stream_of(number))
            if following is None and await stream_info(self._connection, stream_of(number + 1)) is not None:
                raise missing(stream_of(number))
            if self.newest is not known:
                continue
            if following is None:
                return info
            first = first_of(following["config"])
            self._closed.append(known._replace(last=first - 1))
            self.newest = Book(number, stream_of(number), first)

    def newest_first(self) -> list[Book]:
        """All books that are known, from the newest to the first."""
        return [self.newest, *reversed(self._closed)]

    def in_order(self) -> list[Book]:
        """All books that are known, from the first to the newest."""
        return [*self._closed, self.newest]

    def with_sequence(self, seq: int) -> Book:
        """The book that holds that sequence, as far as is known."""
        return next((book for book in self.newest_first() if seq >= book.first), self.in_order()[0])


_known: WeakKeyDictionary[Connection, Books] = WeakKeyDictionary()


def books_of(connection: Connection) -> Books:
    """The books of the log that this connection reaches, as far as it has looked."""
    return _known.setdefault(connection, Books(connection))


async def stream_info(connection: Connection, stream: str, **request: Any) -> dict[str, Any] | None:
    """What the stream's leader says of it; None where there is no such stream. Raises `JetStreamMissing`."""
    info = await request_json(connection, f"STREAM.INFO.{stream}", request)
    if info.get("error", {}).get("err_code") == NOT_FOUND:
        return None
    if "error" in info:
        raise missing(stream, info["error"].get("description"))
    return info


def missing(stream: str, why: str = "stream not found") -> JetStreamMissing:
    """The error that the broker does not show a stream."""
    return JetStreamMissing(f"the broker has no stream {stream}: {why}")


def is_put_away(config: dict[str, Any]) -> bool:
    """Whether a book with this configuration takes no more commits."""
    number = number_of(config["name"])
    return number is not None and config.get("subjects") == [put_away_as(number)]


def first_of(config: dict[str, Any]) -> int:
    """The first sequence of a book with this configuration."""
    return int(config.get("first_seq") or 1)
