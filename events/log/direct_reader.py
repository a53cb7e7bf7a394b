"""Reads the log in order, book after book, by batched direct get (NATS ADR-31), for roles that may only read.

A role that may create consumers may have messages delivered to any subject; the replies to direct gets go to the
requester's own inbox, in its own account.
A few requests are under way at a time, so a reader holds a bounded number of messages, and the broker does not idle
while they are worked on. Any copy of the stream may answer. If it lacks the newest messages, it is asked again: the
stream's leader knows which ones exist.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress

import msgspec
from nats.errors import Error as NatsError

from events.aggregates.aggregate_names import EVERYTHING, STREAM
from events.bus.connection import Connection
from events.log.books import Book, Books, books_of
from events.log.consumer_reader import Batch
from events.log.direct_response import DirectGet
from events.log.jetstream_api import JetStreamMissing, Unavailable
from events.log.stored_message import StoredMessage
from events.log.stream import holds_any, last_sequence

REQUEST_SIZE = 1000
REQUEST_BYTES = 8 << 20
IN_FLIGHT = 4
SILENCE_SECONDS = 3.0
"""After so long without a message, requests are sent again."""
POLL_SECONDS = 0.2
"""Between two requests for messages that do not exist yet."""
STALL_TIMEOUT_SECONDS = 30.0
"""How long the broker may be away, or the copy behind, before reading fails."""


async def short_pause() -> None:
    """Wait until it is time to look for new messages again."""
    await asyncio.sleep(POLL_SECONDS)


async def read_direct(
    connection: Connection,
    start: int = 1,
    *,
    stream: str = STREAM,
    filter: str = EVERYTHING,
    until: int | None = None,
    pause: Callable[[], Awaitable[None]] = short_pause,
) -> AsyncGenerator[Batch, None]:
    """Yield the messages from sequence `start` on whose subject matches `filter`, in batches that are not empty.

    With `until`, reading ends after that sequence, or at the end of the log if that comes first. Otherwise it goes on
    for ever, and at the end of the log awaits `pause` between two requests. Missing sequences are skipped. Raises
    `Unavailable` when no broker has answered, or the copy has been behind the leader, for too long; without `until`
    it waits for ever.
    """
    books = books_of(connection) if stream == STREAM else Books(connection, stream)
    position = start
    while until is None or position <= until:
        await _look(books, position, until)
        book = books.with_sequence(position)
        end = until if book.last is None else min(book.last, until or book.last)

        async def pause_or_end(read: Book = book) -> bool:
            await pause()
            return await _is_closed(books, read)

        batches = read_stream(connection, position, book.stream, filter=filter, until=end, at_end=pause_or_end)
        async with aclosing(batches):
            async for batch in batches:
                position = batch.messages[-1].seq + 1
                more = 0 if book is books.newest or position > (until or position) else 1
                yield Batch(batch.messages, batch.pending + more)
        if book.last is not None:
            position = book.last + 1
        elif until is not None and not await _is_closed(books, book):
            return


async def _look(books: Books, position: int, until: int | None) -> None:
    """Find out which book is the newest. Raises `Unavailable` as `read_direct`."""
    deadline = asyncio.get_running_loop().time() + (math.inf if until is None else STALL_TIMEOUT_SECONDS)
    while True:
        try:
            await books.look()
            return
        except (NatsError, JetStreamMissing) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"reading stopped before sequence {position}: {error}") from error
        await asyncio.sleep(POLL_SECONDS)


async def _is_closed(books: Books, book: Book) -> bool:
    """Whether the book, which was the newest, is certainly closed by now."""
    try:
        await books.look()
    except (NatsError, JetStreamMissing):
        return False  # that is not known now
    return books.newest != book


async def _go_on() -> bool:
    await short_pause()
    return False


async def read_stream(
    connection: Connection,
    start: int,
    stream: str,
    *,
    filter: str = EVERYTHING,
    until: int | None = None,
    at_end: Callable[[], Awaitable[bool]] = _go_on,
) -> AsyncGenerator[Batch, None]:
    """As `read_direct`, from one stream. Without `until`, it awaits `at_end` at its end, which tells whether to end."""
    reader = _Reader(connection, stream, filter, start, until, at_end)
    await reader.open()
    try:
        while not reader.is_done:
            if batch := await reader.next_batch():
                yield batch
    finally:
        await reader.close()


async def message_at(connection: Connection, seq: int, stream: str = STREAM) -> StoredMessage | None:
    """Read the message of that sequence; None if there is none. Raises `Unavailable` as above."""
    async with aclosing(read_direct(connection, seq, stream=stream, until=seq)) as batches:
        async for batch in batches:
            return batch.messages[0]
    return None


async def has_tenant(connection: Connection, name: str) -> bool:
    """Whether the log has any message of a tenant of that valid name. Raises `JetStreamMissing` and as above."""
    end = await last_sequence(connection)
    async with aclosing(read_direct(connection, filter=f"tokens.{name}.>", until=end)) as batches:
        async for _ in batches:
            return True
    return False


class _Reader:
    def __init__(
        self,
        connection: Connection,
        stream: str,
        filter: str,
        start: int,
        until: int | None,
        at_end: Callable[[], Awaitable[bool]],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._is_whole = filter == EVERYTHING
        self._filter = ">" if self._is_whole else filter
        self._next = start
        self._until = until
        self._at_end = at_end
        self.is_done = until is not None and start > until
        self._requests: dict[bytes, DirectGet] = {}
        """By inbox, in the order in which they were sent."""
        self._count = 0
        self._arrival = asyncio.Event()
        self._has_until = False
        self._is_at_end = False
        self._progress_at = asyncio.get_running_loop().time()

    async def open(self) -> None:
        self._inbox = self._connection.new_inbox()
        self._subscription = await self._connection.listen(f"{self._inbox}.*", self._received)

    async def close(self) -> None:
        with suppress(NatsError):  # if the connection is gone, so is the subscription
            await self._connection.stop_listening(self._subscription)

    async def next_batch(self) -> Batch | None:
        """Return the answer to the oldest request; None if it was empty or missing."""
        if self._is_at_end and await self._at_end():
            self.is_done = True
            return None
        try:
            await self._request_more()
        except NatsError:
            await self._retry("the broker is away")
            return None
        request = await self._answered()
        if request is None:
            await self._retry("the broker gives no whole answer")
            return None
        messages = self._fresh(request)
        if messages:
            self._next = messages[-1].seq + 1
            self._progress_at = asyncio.get_running_loop().time()
        if self._until is not None and self._next > self._until:
            self.is_done = True
            return Batch(messages, 0)
        self._is_at_end = request.left == 0 and self._until is None
        if request.left == 0:
            await self._reached_end()
        elif (following := next(iter(self._requests.values()), None)) and following.start > self._next:
            self._requests.clear()  # this one was cut short, so the next ones would leave a gap
        left = self._until - self._next + 1 if self._is_whole and self._until is not None else request.left
        return Batch(messages, left) if messages else None

    async def _request_more(self) -> None:
        # for the whole log, the start of the next request is known before the one ahead of it is answered
        in_flight = IN_FLIGHT if self._is_whole and not self._is_at_end else 1
        while len(self._requests) < in_flight:
            ahead = next(reversed(self._requests.values()), None)
            start = self._next if ahead is None else max(ahead.start + REQUEST_SIZE, self._next)
            if self._until is not None and start > self._until:
                return
            size = REQUEST_SIZE
            if self._is_whole and self._until is not None:
                size = min(size, self._until - start + 1)
            question = {"seq": start, "batch": size, "max_bytes": REQUEST_BYTES, "next_by_subj": self._filter}
            self._count += 1
            inbox = f"{self._inbox}.{self._count}"
            subject = f"{self._connection.jetstream_api}.DIRECT.GET.{self._stream}"
            await self._connection.publish(subject, msgspec.json.encode(question), reply=inbox)
            self._requests[inbox.encode()] = DirectGet(start)

    def _received(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        request = self._requests.get(subject)
        if request is None or headers is None:
            return  # belongs to a request that was given up
        request.receive(headers, body)
        if request.status:
            self._arrival.set()

    async def _answered(self) -> DirectGet | None:
        """Return the oldest request once its answer is complete; None if the answer stops or is not whole."""
        inbox, request = next(iter(self._requests.items()))
        while not request.status:
            received = len(request.messages)
            self._arrival.clear()
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await self._arrival.wait()
            except TimeoutError:
                if len(request.messages) == received:
                    return None
        del self._requests[inbox]
        return request if request.is_answered else None

    def _fresh(self, request: DirectGet) -> list[StoredMessage]:
        """Remove messages received before (after a gap, requests overlap) and those after `until`."""
        messages = request.messages
        if messages and (messages[0].seq < self._next or (self._until is not None and messages[-1].seq > self._until)):
            last = messages[-1].seq if self._until is None else self._until
            return [stored for stored in messages if self._next <= stored.seq <= last]
        return messages

    async def _reached_end(self) -> None:
        """Find out whether this is the end of the log, or the copy that answered is behind."""
        self._requests.clear()
        if self._until is None:
            self._progress_at = asyncio.get_running_loop().time()
        elif self._is_whole:
            more = True  # unless the leader answers that there are none
            with suppress(NatsError, JetStreamMissing):
                more = await holds_any(self._connection, self._stream, self._next, self._until)
            self.is_done = not more
            if more:
                await self._retry("the broker that answers has less than the log's leader")
        elif self._has_until:
            self.is_done = True
        else:
            # for a part of the log the leader cannot say; but a copy that has the last message has all before it
            async with aclosing(read_stream(self._connection, self._until, self._stream, until=self._until)) as last:
                async for _ in last:
                    pass
            self._has_until = True

    async def _retry(self, why: str) -> None:
        self._requests.clear()
        self._has_until = False
        patience = STALL_TIMEOUT_SECONDS if self._until is not None else math.inf
        if asyncio.get_running_loop().time() - self._progress_at > patience:
            raise Unavailable(f"reading stopped before sequence {self._next}: {why}, for {patience:.0f} s")
        await asyncio.sleep(POLL_SECONDS)
