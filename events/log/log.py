"""The log: load an aggregate's last commit, append the next. `consumer_reader` and `direct_reader` read it in order."""

import asyncio
import base64
from contextlib import aclosing
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from nats.errors import NoRespondersError, OutboundBufferLimitError

from events.aggregates.aggregate_names import SETTINGS, STREAM, Aggregate
from events.aggregates.commit import Commit
from events.bus.connection import Connection
from events.log.appender import Appender
from events.log.direct_reader import read_direct
from events.log.grammar import Foreign, read_commit
from events.log.jetstream_api import NO_MESSAGE, ApiError, JetStreamMissing, Unavailable, request_bytes
from events.log.newest_message import READ_SECONDS, NewestMessages
from events.log.stored_message import StoredMessage
from events.log.stream import StreamSize, last_sequence, size


class Head(NamedTuple):
    """An aggregate's last commit, None without one, and the sequence that the next append must expect.

    The two differ if foreign messages (`events.log.grammar`) came after the commit: they do not belong to the
    aggregate, but the broker counts them.
    """

    stored: StoredMessage | None
    commit: Commit[Any, Any] | None
    expected: int


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
    """The log, or another stream, through one connection. `start` it once, before the first call."""

    def __init__(self, connection: Connection, stream: str = STREAM, appender: type[Appender] = Appender) -> None:
        self._connection = connection
        self._stream = stream
        self._newest = NewestMessages(connection, stream)
        self.appender = appender(connection, self._next_after)
        self.append = self.appender.append

    async def start(self) -> None:
        """Subscribe to acknowledgements and to the answers of direct gets."""
        await self._newest.start()
        await self.appender.start()

    async def head(self, aggregate: Aggregate, *, leader: bool = True) -> Head:
        """Load the aggregate's head, by default from the stream's `leader`.

        An answer that is given without an append must be decided on the leader's. Any copy's is good enough for the
        expected sequence of an append, which the broker checks. Raises `Unavailable`, and `UnreadableCommit` for a
        commit of a later version.
        """
        last = await (self.newest(aggregate.filter) if leader else self._newest.under(aggregate.filter))
        if last is None:
            return NOTHING
        found = read_commit(last)
        if not isinstance(found, Foreign):
            return Head(last, found, last.seq)
        stored = await self._last_before(aggregate, last.seq)
        commit = None if stored is None else read_commit(stored)
        assert not isinstance(commit, Foreign)
        return Head(stored, commit, last.seq)

    async def _last_before(self, aggregate: Aggregate, seq: int) -> StoredMessage | None:
        """Read the aggregate's last commit before that sequence from its beginning: the broker cannot read backwards.

        Messages that the answering copy lacks are read from the leader.
        """
        found, read = None, 0
        try:
            async with asyncio.timeout(READ_SECONDS):
                everything = read_direct(self._connection, stream=self._stream, filter=aggregate.filter, until=seq - 1)
                async with aclosing(everything) as batches:
                    async for batch in batches:
                        read = batch.messages[-1].seq
                        commits = [each for each in batch.messages if not isinstance(read_commit(each), Foreign)]
                        found = commits[-1] if commits else found
                while (following := await self.next_after(aggregate, read)) is not None and following.seq < seq:
                    read = following.seq
                    found = found if isinstance(read_commit(following), Foreign) else following
        except TimeoutError as error:
            raise Unavailable("the log cannot be read now") from error
        return found

    async def newest(self, filter: str) -> StoredMessage | None:
        """The newest message under `filter`, commit or not, from the leader. Raises `Unavailable`."""
        return await self._from_leader({"last_by_subj": filter})

    async def at(self, seq: int) -> StoredMessage | None:
        """The message of that sequence from the leader; None without one. Raises `Unavailable`."""
        return await self._from_leader({"seq": seq})

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
        return await self._from_leader({"next_by_subj": aggregate.filter, "seq": seq + 1})

    async def last_setting(self) -> int:
        """The sequence of the newest message about a tenant, client or key, 0 without one. Raises `Unavailable`."""
        newest = [await self.newest(filter) for filter in SETTINGS]
        return max((stored.seq for stored in newest if stored is not None), default=0)

    async def last_sequence(self) -> int:
        """The stream's newest sequence. Raises `Unavailable`."""
        try:
            return await last_sequence(self._connection, self._stream)
        except JetStreamMissing as error:
            raise Unavailable(str(error)) from error

    async def size(self) -> StreamSize:
        """The stream's size, from the leader. Raises `Unavailable`."""
        try:
            return await size(self._connection, self._stream)
        except JetStreamMissing as error:
            raise Unavailable(str(error)) from error

    async def finished(self, consumer: str) -> int:
        """The sequence up to which a durable consumer has acknowledged all its messages. Raises `Unavailable`."""
        try:
            reply = await request_bytes(self._connection, f"CONSUMER.INFO.{self._stream}.{consumer}", b"", READ_SECONDS)
        except (NoRespondersError, TimeoutError, OutboundBufferLimitError) as error:
            raise Unavailable("the log's leader cannot be read now") from error
        info = _consumer_decoder.decode(reply)
        if info.error is not None:
            raise Unavailable(info.error.description)
        return info.ack_floor.stream_seq

    async def _next_after(self, filter: str, after: int) -> tuple[int, bytes] | None:
        try:
            found = await self._from_leader({"next_by_subj": filter, "seq": after + 1})
        except Unavailable:
            return None
        return (found.seq, found.body) if found else None

    async def _from_leader(self, query: dict[str, str | int]) -> StoredMessage | None:
        request = msgspec.json.encode(query)
        try:
            reply = await request_bytes(self._connection, f"STREAM.MSG.GET.{self._stream}", request, READ_SECONDS)
        except (NoRespondersError, TimeoutError, OutboundBufferLimitError) as error:
            raise Unavailable("the log's leader cannot be read now") from error
        answer = _get_decoder.decode(reply)
        if answer.message is not None:
            found = answer.message
            return StoredMessage(found.seq, found.subject, base64.b64decode(found.data), found.time)
        if answer.error is not None and answer.error.err_code == NO_MESSAGE:
            return None
        raise Unavailable(answer.error.description if answer.error else "the log's leader gave no answer")
