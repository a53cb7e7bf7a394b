"""The log: load an aggregate's last commit, append the next. `consumer_reader` and `direct_reader` read it in order."""

import asyncio
import base64
from contextlib import aclosing
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, OutboundBufferLimitError

from events.aggregates.aggregate_names import SETTINGS, STREAM, Aggregate
from events.aggregates.book import FIRST_BOOK
from events.aggregates.commit import Commit
from events.bus.connection import Connection
from events.log.appender import Appender, Found
from events.log.books import Book, Books, books_of
from events.log.direct_reader import read_stream
from events.log.grammar import Foreign, read_commit
from events.log.jetstream_api import NO_MESSAGE, ApiError, JetStreamMissing, Unavailable, request_bytes
from events.log.newest_message import READ_SECONDS, NewestMessages
from events.log.stored_message import StoredMessage
from events.log.stream import StreamSize, last_sequence, size


class Head(NamedTuple):
    """An aggregate's last commit, None without one, and the sequence that the next append must expect.

    The two differ if foreign messages (`events.log.grammar`) came after the commit: they do not belong to the
    aggregate, but the broker counts them. In the newest book, whose `stream` the append is for, the expected sequence
    is 0 as long as nothing of the aggregate lies in it, also if its last commit lies in an older one.
    """

    stored: StoredMessage | None
    commit: Commit[Any, Any] | None
    expected: int
    stream: str = STREAM


NOTHING = Head(None, None, 0)


class _MessageInReply(msgspec.Struct):
    subject: str
    seq: int
    data: str = ""
    time: datetime | None = None


class _GetReply(msgspec.Struct):
    message: _MessageInReply | None = None
    error: ApiError | None = None


class _AckFloor(msgspec.Struct):
    stream_seq: int = 0


class _ConsumerInfo(msgspec.Struct):
    ack_floor: _AckFloor = msgspec.field(default_factory=_AckFloor)
    error: ApiError | None = None


_get_decoder = msgspec.json.Decoder(_GetReply)
_consumer_decoder = msgspec.json.Decoder(_ConsumerInfo)


class Log:
    """The log, or another stream, through one connection. `start` it once, before the first call.

    Until `certain_until`, a time of the event loop's clock, no book can be closed without `announced` saying so first:
    whoever sets them keeps that promise. Without it, every read from a leader begins with a look at the books, since an
    answer from a book that is closed by then could be old.
    """

    def __init__(self, connection: Connection, stream: str = STREAM, appender: type[Appender] = Appender) -> None:
        self._connection = connection
        self._is_log = stream == STREAM
        self.books = books_of(connection) if self._is_log else Books(connection, stream)
        self._newest = NewestMessages(connection)
        self.appender = appender(connection, self._find_next, stream)
        self.append = self.appender.append
        self.certain_until = float("-inf")
        self.announced = FIRST_BOOK
        self._closed_settings: dict[tuple[str, str], int] = {}

    async def start(self) -> None:
        """Subscribe to acknowledgements and to the answers of direct gets."""
        await self._newest.start()
        await self.appender.start()

    async def look(self) -> None:
        """Find out which book is the newest now. Raises `Unavailable`."""
        try:
            await self.books.look()
        except (JetStreamMissing, NatsError) as error:
            raise Unavailable(str(error) or "the log's leader cannot be read now") from error

    async def _be_certain(self) -> None:
        """Return when the newest known book was the newest at some time since the call."""
        known = (self.announced.number, self.announced.closing) == (self.books.newest.number, False)
        if self._is_log and not (known and asyncio.get_running_loop().time() < self.certain_until):
            await self.look()

    async def head(self, aggregate: Aggregate, *, leader: bool = True) -> Head:
        """Load the aggregate's head, by default from the `leader` of the newest book.

        An answer that is given without an append must be decided on the leader's. Any copy's is good enough for the
        expected sequence of an append, which the broker checks. What lies in a closed book is always read from the
        leader: the broker checks nothing of that. Raises `Unavailable`, and `UnreadableCommit` for a commit of a later
        version.
        """
        if leader:
            await self._be_certain()
        newest, expected = self.books.newest, 0
        for book in self.books.newest_first():
            from_any = book is newest and not leader
            find = self._newest.under if from_any else self._newest_in
            if (last := await find(aggregate.filter, book.stream)) is None:
                continue
            expected = last.seq if book is newest else expected
            stored = last
            if isinstance(found := read_commit(last), Foreign):
                if (below := await self._last_before(aggregate, last.seq, book)) is None:
                    continue
                stored, found = below, read_commit(below)
            assert not isinstance(found, Foreign)
            return Head(stored, found, expected, newest.stream)
        return Head(None, None, expected, newest.stream)

    async def _last_before(self, aggregate: Aggregate, seq: int, book: Book) -> StoredMessage | None:
        """Read the aggregate's last commit before that sequence from the book's beginning: the broker cannot read back.

        Messages that the answering copy lacks are read from the leader.
        """
        found, read, stream = None, book.first - 1, book.stream
        try:
            async with asyncio.timeout(READ_SECONDS):
                everything = read_stream(self._connection, book.first, stream, filter=aggregate.filter, until=seq - 1)
                async with aclosing(everything) as batches:
                    async for batch in batches:
                        read = batch.messages[-1].seq
                        commits = [each for each in batch.messages if not isinstance(read_commit(each), Foreign)]
                        found = commits[-1] if commits else found
                while (following := await self._next_in(aggregate.filter, read, stream)) and following.seq < seq:
                    read = following.seq
                    found = found if isinstance(read_commit(following), Foreign) else following
        except TimeoutError as error:
            raise Unavailable("the log cannot be read now") from error
        return found

    async def newest(self, filter: str) -> StoredMessage | None:
        """The newest message under `filter`, commit or not, from the leader. Raises `Unavailable`."""
        await self._be_certain()
        for book in self.books.newest_first():
            if (found := await self._newest_in(filter, book.stream)) is not None:
                return found
        return None

    async def expected_of(self, filter: str) -> tuple[int, str]:
        """The last sequence under `filter` in the newest book, 0 without one, and that book's stream.

        Raises `Unavailable`.
        """
        await self._be_certain()
        stream = self.books.newest.stream
        found = await self._newest_in(filter, stream)
        return (0 if found is None else found.seq), stream

    async def at(self, seq: int) -> StoredMessage | None:
        """The message of that sequence from the leader; None without one. Raises `Unavailable`."""
        await self._be_certain()
        return await self._from_leader({"seq": seq}, self.books.with_sequence(seq).stream)

    async def commit_at(self, aggregate: Aggregate, seq: int) -> Commit[Any, Any] | None:
        """The aggregate's commit of that sequence, from the leader; None where no commit of it lies there.

        Raises `Unavailable`, and `UnreadableCommit` for a commit of a later version.
        """
        stored = await self.at(seq) if seq else None
        if stored is None or stored.subject not in (aggregate.live, aggregate.revoked):
            return None
        commit = read_commit(stored)
        return None if isinstance(commit, Foreign) else commit

    async def next_after(self, aggregate: Aggregate, seq: int) -> StoredMessage | None:
        """The aggregate's next message after that sequence, from the leader. Raises `Unavailable`."""
        await self._be_certain()
        for book in self.books.in_order():
            if book.last is not None and book.last <= seq:
                continue
            if (found := await self._next_in(aggregate.filter, seq, book.stream)) is not None:
                return found
        return None

    async def last_setting(self) -> int:
        """The sequence of the newest message about a tenant, client, key or book, 0 without one. Raises `Unavailable`.

        It looks at the books first, whatever is certain: certainty is renewed by this.
        """
        await self.look()
        return max([await self._last_setting(filter) for filter in SETTINGS])

    async def _last_setting(self, filter: str) -> int:
        for book in self.books.newest_first():
            if (known := self._closed_settings.get((book.stream, filter))) is None:
                found = await self._newest_in(filter, book.stream)
                known = 0 if found is None else found.seq
                if book.last is not None:
                    self._closed_settings[book.stream, filter] = known
            if known:
                return known
        return 0

    async def last_sequence(self) -> int:
        """The newest sequence. Raises `Unavailable`."""
        try:
            return await last_sequence(self._connection, self.books.newest.stream if not self._is_log else STREAM)
        except JetStreamMissing as error:
            raise Unavailable(str(error)) from error

    async def size(self) -> StreamSize:
        """The log's size, from the leaders. Raises `Unavailable`."""
        try:
            return await size(self._connection)
        except JetStreamMissing as error:
            raise Unavailable(str(error)) from error

    async def finished(self, consumer: str, seq: int) -> bool:
        """Whether a durable consumer has acknowledged all its messages up to that sequence. Raises `Unavailable`."""
        await self._be_certain()
        stream = self.books.with_sequence(seq).stream
        try:
            reply = await request_bytes(self._connection, f"CONSUMER.INFO.{stream}.{consumer}", b"", READ_SECONDS)
        except (NoRespondersError, TimeoutError, OutboundBufferLimitError) as error:
            raise Unavailable("the log's leader cannot be read now") from error
        info = _consumer_decoder.decode(reply)
        if info.error is not None:
            raise Unavailable(info.error.description)
        return info.ack_floor.stream_seq >= seq

    async def _find_next(self, filter: str, after: int, place: tuple[int, str]) -> Found:
        """What became of an append, where it was sent to: first whether it can come too late, then whether it is there.

        Most often another commit has come first, and no look at the books is needed to see that.
        """
        seq, stream = place
        try:
            if seq:
                stream = self.books.with_sequence(seq).stream
            if (found := await self._next_in(filter, after, stream)) is None and self._is_log:
                await self.look()
                if seq:
                    stream = self.books.with_sequence(seq).stream
                is_late = stream != self.books.newest.stream
                found = await self._next_in(filter, after, stream)
                return Found(None if found is None else (found.seq, found.body), is_late)
        except Unavailable:
            return Found()
        return Found(None if found is None else (found.seq, found.body))

    async def _newest_in(self, filter: str, stream: str) -> StoredMessage | None:
        return await self._from_leader({"last_by_subj": filter}, stream)

    async def _next_in(self, filter: str, seq: int, stream: str) -> StoredMessage | None:
        return await self._from_leader({"next_by_subj": filter, "seq": seq + 1}, stream)

    async def _from_leader(self, query: dict[str, str | int], stream: str) -> StoredMessage | None:
        request = msgspec.json.encode(query)
        try:
            reply = await request_bytes(self._connection, f"STREAM.MSG.GET.{stream}", request, READ_SECONDS)
        except (NoRespondersError, TimeoutError, OutboundBufferLimitError) as error:
            raise Unavailable("the log's leader cannot be read now") from error
        answer = _get_decoder.decode(reply)
        if answer.message is not None:
            found = answer.message
            return StoredMessage(found.seq, found.subject, base64.b64decode(found.data), found.time)
        if answer.error is not None and answer.error.err_code == NO_MESSAGE:
            return None
        raise Unavailable(answer.error.description if answer.error else "the log's leader gave no answer")
