"""Reads the log in order through a consumer, from any sequence, without an end or up to one.

It uses an ephemeral pull consumer without acknowledgements. When that is lost (the broker restarted, the connection
broke), the next consumer begins where this reader is, so a reader receives every message once and in order. At most two
requests are open, so a slow reader holds a bounded number of messages however long the log is.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import msgspec
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

from events.aggregates.aggregate_names import STREAM
from events.bus.connection import Connection
from events.log.stored_message import StoredMessage

REQUEST_SIZE = 512
REQUEST_SECONDS = 5.0
HEARTBEAT_SECONDS = 1.0
SILENT_SECONDS = 10.0
"""After so long without a message, create another consumer: this one may read a copy of the stream that is behind."""
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
    subject instead of `start`. Without `filters` it reads all messages.
    """
    reader = _Reader(connection, stream, filters, start, last_per_subject)
    try:
        while True:
            batch = await reader.next_batch()
            if until is not None and batch.messages and batch.messages[-1].seq > until:
                wanted = [stored for stored in batch.messages if stored.seq <= until]
                yield Batch(wanted, 0)
                return
            yield batch
            if until is not None and (batch.pending == 0 or batch.messages[-1].seq >= until):
                return
    finally:
        await reader.close()


class _Reader:
    def __init__(
        self, connection: Connection, stream: str, filters: Sequence[str], start: int, last_per_subject: bool
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._filters = list(filters)
        self._next = start
        self._last_per_subject = last_per_subject
        self._jetstream = connection.jetstream(timeout=2)
        self._consumer: str | None = None
        self._arrived: list[StoredMessage] = []
        self._pending = 0
        self._delivered = 0
        self._news = asyncio.Event()
        self._failed = False
        self._rereads = 0
        self._received_at = 0.0
        self._open: dict[str, int] = {}
        """Requests under way: inbox → messages still to come."""

    async def next_batch(self) -> Batch:
        while True:
            if self._consumer is None:
                first_ever = self._delivered == 0
                if await self._begin() == 0 and first_ever:
                    self._delivered = 1  # only the first batch may be empty
                    return Batch([], 0)
            await self._request_more()
            if not self._arrived and not await self._wait():
                await self._abandon()
                continue
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
                return Batch(batch, self._pending)
            if self._failed or asyncio.get_running_loop().time() - self._received_at > SILENT_SECONDS:
                await self._abandon()

    def _misses_some(self, batch: list[StoredMessage]) -> bool:
        """Whether a gap lies before or in the batch. With filters, that is not known."""
        whole = not self._filters and not self._last_per_subject
        return whole and batch[-1].seq - self._next + 1 != len(batch)

    async def close(self) -> None:
        await self._abandon()

    async def _wait(self) -> bool:
        try:
            async with asyncio.timeout(3 * HEARTBEAT_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return False  # not even a heartbeat, so the consumer is gone
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
        if self._last_per_subject and self._next == 1:
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
