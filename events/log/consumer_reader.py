"""Reads the log in order through consumers, from any sequence, without an end or up to one, book after book.

In each book it uses an ephemeral pull consumer without acknowledgements. When that is lost (the broker restarted, the
connection broke), the next consumer begins where this reader is, so a reader receives every message once and in order.
At most two requests are open, so a slow reader holds a bounded number of messages however long the log is.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import msgspec
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

from events.aggregates.aggregate_names import BOOK, STREAM
from events.aggregates.book import BookClosing
from events.aggregates.commit import type_of
from events.bus.connection import Connection
from events.log.books import Book, Books, books_of
from events.log.jetstream_api import NO_MESSAGE, JetStreamMissing, request_json
from events.log.stored_message import StoredMessage

REQUEST_SIZE = 512
REQUEST_SECONDS = 5.0
HEARTBEAT_SECONDS = 1.0
SILENT_SECONDS = 10.0
"""After so long without a message, create another consumer: this one may read a copy of the stream that is behind."""
CLOSING_SECONDS = 0.1
"""While a book closes, between two looks whether the next one is there."""
REREAD_SECONDS = (0.1, 0.4, 1.6)
"""How long to wait before each further look at a gap: a copy that catches up may show one."""


class Batch(NamedTuple):
    """Messages in the order of the stream, and how many more were `pending` behind the last one."""

    messages: list[StoredMessage]
    pending: int


async def read(
    connection: Connection,
    start: int = 1,
    *,
    stream: str = STREAM,
    filters: Sequence[str] = (),
    last_per_subject: bool = False,
    until: int | None = None,
) -> AsyncGenerator[Batch, None]:
    """Yield the messages from sequence `start` on, in batches of whatever has arrived.

    With `until`, reading ends after that sequence, or at the end of the log if that comes first; otherwise it goes on
    for ever. The first batch may be empty, if the log is. `last_per_subject` begins with the last message of each
    subject, in each book, instead of `start`. Without `filters` it reads all messages.
    """
    books = books_of(connection) if stream == STREAM else Books(connection, stream)
    position = start
    while until is None or position <= until:
        await _look(books)
        book = books.with_sequence(position)
        reader = _Reader(connection, book.stream, filters, position, last_per_subject)
        try:
            async for batch in _read_book(reader, books, book):
                if until is not None and batch.messages and batch.messages[-1].seq > until:
                    yield Batch([stored for stored in batch.messages if stored.seq <= until], 0)
                    return
                yield batch
                position = batch.messages[-1].seq + 1 if batch.messages else position
                if until is not None and (batch.pending == 0 or position > until):
                    return
        finally:
            await reader.close()
        position = next((each.first for each in books.in_order() if each.number > book.number), position)


async def _read_book(reader: "_Reader", books: Books, book: Book) -> AsyncGenerator[Batch, None]:
    """Yield what the reader reads, until all of the book is read and there is another one."""
    is_read = False
    while not is_read:
        batch = await reader.next_batch()
        is_closed = books.newest.number > book.number
        if batch is not None and (batch.messages or not is_closed):
            yield Batch(batch.messages, batch.pending + is_closed)
        if batch is None or (is_closed and batch.pending == 0):
            is_read = await reader.is_over(books, book)


def _closes_a_book(stored: StoredMessage) -> bool:
    return stored.subject == BOOK and type_of(BookClosing).encode() in stored.body


async def _look(books: Books) -> None:
    while True:
        try:
            await books.look()
            return
        except (NatsError, JetStreamMissing):
            await asyncio.sleep(CLOSING_SECONDS)  # there is no broker, no leader yet, or no log


class _Reader:
    def __init__(
        self, connection: Connection, stream: str, filters: Sequence[str], start: int, last_per_subject: bool
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._filters = list(filters)
        self._start = self._next = start
        self._last_per_subject = last_per_subject
        self._jetstream = connection.jetstream(timeout=2)
        self._consumer: str | None = None
        self._arrived: list[StoredMessage] = []
        self._pending = 0
        self._delivered = 0
        self._news = asyncio.Event()
        self._failed = False
        self._closes = False
        self._rereads = 0
        self._received_at = 0.0
        self._open: dict[str, int] = {}
        """Requests under way: inbox → messages still to come."""

    async def is_over(self, books: Books, book: Book) -> bool:
        """Whether the book is closed, and its leader has nothing that is still to be read."""
        try:
            await books.look()
            if books.newest.number == book.number:
                return False
            for filter in self._filters or (">",):
                request = {"next_by_subj": filter, "seq": self._next}
                found = await request_json(self._connection, f"STREAM.MSG.GET.{self._stream}", request)
                if found.get("error", {}).get("err_code") != NO_MESSAGE:
                    return False
        except (NatsError, JetStreamMissing):
            return False  # that is not known now
        return True

    async def next_batch(self) -> Batch | None:
        """The next messages; None if there were none for a while."""
        while True:
            if self._consumer is None:
                first_ever = self._delivered == 0
                if await self._begin() == 0 and first_ever:
                    self._delivered = 1  # only the first batch may be empty
                    return Batch([], 0)
            await self._request_more()
            if not self._arrived and not await self._wait():
                await self._abandon()
                return None
            batch, self._arrived = self._arrived, []
            self._news.clear()
            if batch and self._misses_some(batch) and self._rereads < len(REREAD_SECONDS):
                await self._abandon()
                await asyncio.sleep(REREAD_SECONDS[self._rereads])
                self._rereads += 1
                continue
            if batch:
                self._rereads = 0
                self._received_at = asyncio.get_running_loop().time()
                self._delivered += len(batch)
                self._next = batch[-1].seq + 1
                self._closes = self._closes or any(map(_closes_a_book, batch))
                return Batch(batch, self._pending)
            if self._failed or asyncio.get_running_loop().time() - self._received_at > SILENT_SECONDS:
                await self._abandon()
            return None

    def _misses_some(self, batch: list[StoredMessage]) -> bool:
        """Whether a gap lies before or in the batch. With filters, that is not known."""
        whole = not self._filters and not self._last_per_subject
        return whole and batch[-1].seq - self._next + 1 != len(batch)

    async def close(self) -> None:
        await self._abandon()

    async def _wait(self) -> bool:
        try:
            async with asyncio.timeout(CLOSING_SECONDS if self._closes else 3 * HEARTBEAT_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return self._closes  # not even a heartbeat, so the consumer is gone
        return True

    async def _begin(self) -> int:
        config = ConsumerConfig(
            name=f"reader-{uuid.uuid4().hex}",
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=30,
            filter_subjects=self._filters or None,
            max_waiting=16,
        )
        if self._last_per_subject and self._next == self._start:
            config.deliver_policy = DeliverPolicy.LAST_PER_SUBJECT
        else:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self._next
        while True:
            try:
                info = await self._jetstream.add_consumer(self._stream, config)
                break
            except (NatsError, JetStreamError):
                await asyncio.sleep(0.1)  # there is no broker, or no leader yet
        self._consumer = info.name
        self._received_at = asyncio.get_running_loop().time()
        self._inbox = self._connection.new_inbox()
        self._subscription = await self._connection.listen(f"{self._inbox}.*", self._received)
        self._numbers = iter(range(1, 1 << 62))
        self._failed = False
        self._open.clear()
        self._arrived.clear()
        self._pending = info.num_pending or 0
        return self._pending

    async def _request_more(self) -> None:
        # the second request is sent while the first is still being answered, so the broker never waits for this process
        while sum(self._open.values()) <= REQUEST_SIZE // 2 and len(self._arrived) < 2 * REQUEST_SIZE:
            inbox = f"{self._inbox}.{next(self._numbers)}"
            self._open[inbox] = REQUEST_SIZE
            request = {
                "batch": REQUEST_SIZE,
                "expires": int(REQUEST_SECONDS * 1e9),
                "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
            }
            try:
                await self._connection.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
                    msgspec.json.encode(request),
                    reply=inbox,
                )
            except NatsError:
                self._failed = True
                self._news.set()
                return

    def _received(self, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        if reply.startswith(b"$JS.ACK."):
            fields = reply.split(b".")
            self._pending = int(fields[-1] if len(fields) == 9 else fields[-2])
            seq = int(fields[5] if len(fields) == 9 else fields[7])
            self._arrived.append(StoredMessage(seq, subject.decode(errors="replace"), body))
            self._count_delivery()
        else:
            self._status(subject.decode(), (headers or b"").removeprefix(b"NATS/1.0 ")[:3])
        self._news.set()

    def _count_delivery(self) -> None:
        inbox = next(iter(self._open), None)  # the broker answers requests in their order
        if inbox is not None:
            self._open[inbox] -= 1
            if self._open[inbox] == 0:
                del self._open[inbox]

    def _status(self, inbox: str, status: bytes) -> None:
        if status == b"100":
            return  # a heartbeat
        if status == b"408":
            self._open.pop(inbox, None)  # no more messages in time
        else:
            self._failed = True

    async def _abandon(self) -> None:
        if self._consumer is None:
            return
        consumer, self._consumer = self._consumer, None
        try:
            await self._connection.stop_listening(self._subscription)
            await self._jetstream.delete_consumer(self._stream, consumer)
        except (NatsError, JetStreamError):
            pass  # the broker removes it after a while without requests
