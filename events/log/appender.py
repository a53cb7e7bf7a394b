"""Appends to the log: compare-and-swap, group commit, and the resolution of missing acknowledgements (ADR 0001).

One public coroutine, `append`. Callers do not see batches.

An fsync per append limits one server to a few thousand appends a second. Commits of different aggregates that wait at
the same moment can share one fsync: they go as a JetStream atomic batch if that is faster (`events.log.batch_choice`).
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
from nats.errors import Error as NatsError

from events.aggregates.aggregate_names import STREAM
from events.bus.connection import Connection
from events.histogram import Histogram
from events.log.batch_choice import BatchChoice
from events.log.jetstream_api import ApiError, Unavailable
from events.task_set import TaskSet

WRONG_LAST_SEQUENCE = 10071
WRITE_IN_FLIGHT = 10164
WRONG_STREAM = 10060
ATTEMPT_SECONDS = 0.8
"""How long one attempt waits for its acknowledgement before the leader is asked whether it was stored."""
APPEND_TIMEOUT_SECONDS = 1.7
"""How long an append may take in all: the caller gets a result or an error within two seconds."""
HEADERS_BYTES = 4096
"""The part of the broker's largest message that is reserved for headers."""
MAX_BATCH = 500
"""Commits in one batch; the server allows 1,000."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Conflict(Exception):
    """Another commit of the aggregate came first: the caller loads and decides again."""


class TooLarge(Exception):
    """The commit is larger than the broker's largest message."""


class Append(NamedTuple):
    """A commit under way: `body` for `subject`, valid only if `guard` (a filter and its last sequence) still holds.

    That sequence is one of the stream that the commit is for. If it is 0, the commit names the `stream`.
    """

    subject: str
    filter: str
    body: bytes
    guard: tuple[str, int]
    answer: "asyncio.Future[Ack]"
    stream: str


class Found(NamedTuple):
    """What the log holds of an append without a good acknowledgement.

    `message` is the sequence and the body of the first message of the aggregate after the expected one, None if there
    is none. If the append `is_late`, the stream that it was for takes no more commits.
    """

    message: tuple[int, bytes] | None = None
    is_late: bool = False


class Ack(msgspec.Struct, frozen=True):
    """JetStream's reply to a publish: `seq` is the stream sequence, for a batch that of its last message."""

    seq: int = 0
    error: ApiError | None = None


_TIMED_OUT = Ack(error=ApiError(408, 0, "no acknowledgement in time"))
_ack_decoder = msgspec.json.Decoder(Ack)

FindNext = Callable[[str, int, tuple[int, str]], Awaitable[Found]]
"""`(filter, after, (sequence, stream))` → what became of an append, from the leader of the stream that it was for.

That is the stream of the sequence that the append expected, or the one that it named.
"""


class Appender:
    """Appends to a stream, or a book of the log, through one connection. `find_next` must read from the leader."""

    def __init__(self, connection: Connection, find_next: FindNext, stream: str = STREAM) -> None:
        self._connection = connection
        self._stream = stream
        self._find_next = find_next
        self._inbox = connection.new_inbox()
        self._ids = itertools.count(1)
        self._unanswered: dict[bytes, asyncio.Future[Ack]] = {}
        self._due: deque[tuple[float, asyncio.Future[Ack]]] = deque()
        self._clock: asyncio.Handle | None = None
        self._waiting: deque[Append] = deque()
        self._batch_choice = BatchChoice(time.perf_counter)
        self._singles = 0
        self._batching = False
        self._wake_up: asyncio.Handle | None = None
        self._tasks = TaskSet()
        self.retries = 0
        self.sizes = Histogram(SIZES)
        """Commits per append: the size of each batch, 1 for a single append."""

    async def start(self) -> None:
        """Subscribe to acknowledgements, once before the first append."""
        await self._connection.listen(f"{self._inbox}.*", self._acknowledged)

    async def append(
        self,
        subject: str,
        filter: str,
        body: bytes,
        expected: int,
        *,
        guard: tuple[str, int] | None = None,
        stream: str | None = None,
    ) -> int:
        """Append `body` if `expected` is still the last sequence under `filter` (0: there is none in `stream` yet).

        A `guard`, another filter and its last sequence, is checked instead: for the first commit of an aggregate whose
        random name no other writer can have chosen. Returns the commit's sequence once it is acknowledged. Raises
        `Conflict` if another commit came first, `Unavailable` if the log does not answer in time, and `TooLarge`.
        """
        if len(body) > self._connection.max_payload - HEADERS_BYTES:
            raise TooLarge(f"a commit of {len(body)} bytes for {subject}")
        loop, stream = asyncio.get_running_loop(), stream or self._stream
        deadline = loop.time() + APPEND_TIMEOUT_SECONDS
        while True:
            append = Append(subject, filter, body, guard or (filter, expected), loop.create_future(), stream)
            if self._batch_choice.together or self._waiting:
                self._waiting.append(append)
                self._schedule()
                ack = await append.answer
            else:
                ack = await self._send_single(append)
            if ack.error is None:
                return ack.seq
            if ack.error.err_code != WRITE_IN_FLIGHT:
                # An acknowledgement may have been lost, and a conflict may be with our own earlier attempt.
                # The first message after `expected` decides: it is this commit, another one, or there is none.
                found = await self._find_next(filter, expected, (append.guard[1], stream))
                if found.message is not None and found.message[1] == body:
                    return found.message[0]
                is_overtaken = found.message is not None or found.is_late
                if is_overtaken or (guard is not None and ack.error.err_code == WRONG_LAST_SEQUENCE):
                    raise Conflict(filter)
                if guard is not None and (ack.error == _TIMED_OUT.error or ack.error.err_code == WRONG_STREAM):
                    # the attempt may still be under way, and nothing would reject a second one
                    raise Unavailable(ack.error.description)
            if loop.time() > deadline:
                raise Unavailable(ack.error.description)
            self.retries += 1
            await asyncio.sleep(0.02)

    def _schedule(self) -> None:
        if self._wake_up is None:
            # at the end of this turn of the loop, so that appends that arrive together are sent together
            self._wake_up = asyncio.get_running_loop().call_soon(self._send_waiting)

    def _send_waiting(self) -> None:
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None
        if self._batching:
            return
        if self._batch_choice.together and len(self._waiting) > 1:
            self._batching = True
            self._tasks.start(self._send_batch(self._take_batch()))
            return
        while self._waiting:
            self._tasks.start(self._send_single(self._waiting.popleft()))

    def _take_batch(self) -> list[Append]:
        batch: dict[str, Append] = {}
        later: list[Append] = []
        while self._waiting and len(batch) < MAX_BATCH:
            append = self._waiting.popleft()
            if append.filter in batch:
                later.append(append)  # an aggregate may appear only once in a batch
            else:
                batch[append.filter] = append
        self._waiting.extendleft(reversed(later))
        return list(batch.values())

    async def _send_single(self, append: Append) -> Ack:
        self._singles += 1
        ack = await self._publish(append, {})
        self.sizes.observe(1)
        if ack.error is None:
            self._batch_choice.acknowledged(1, self._singles)
        self._singles -= 1
        _settle(append, ack)
        if self._waiting:
            self._schedule()
        return ack

    async def _send_batch(self, batch: list[Append]) -> None:
        # each message is stored with it, so it is short; of the batches under way no two have the same
        name = f"{self._inbox.rsplit('.', 1)[-1][-8:]}{next(self._ids)}"
        try:
            for position, append in enumerate(batch[:-1], 1):
                headers = _expectation(append) | {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(position)}
                await self._connection.publish(append.subject, append.body, headers=headers)
            commit = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(len(batch)), "Nats-Batch-Commit": "1"}
            ack = await self._publish(batch[-1], commit)
        except NatsError as error:
            ack = _refused(error)
        if ack.error is None:
            self.sizes.observe(len(batch))
            self._batch_choice.acknowledged(len(batch), len(batch) + len(self._waiting))
        self._batching = False
        await self._send_next()
        if ack.error is None:
            first = ack.seq - len(batch) + 1
            for position, append in enumerate(batch):
                _settle(append, Ack(seq=first + position))
        elif ack.error.err_code == 0:
            for append in batch:
                _settle(append, ack)
        else:
            # One conflict rejects the whole batch without naming the commit: each is sent again, alone.
            for append in batch:
                self._tasks.start(self._send_single(append))
        if self._waiting:
            self._schedule()

    async def _send_next(self) -> None:
        """Send the next batch before the results of this one are handled, so that the broker does not idle."""
        self._send_waiting()
        if self._batching:
            await asyncio.sleep(0)  # the loop writes it
            await asyncio.sleep(0)  # and sends it

    async def _publish(self, append: Append, headers: dict[str, str]) -> Ack:
        token = b"%d" % next(self._ids)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Ack] = loop.create_future()
        self._unanswered[token] = answer
        self._due.append((loop.time() + ATTEMPT_SECONDS, answer))
        if self._clock is None:
            self._clock = loop.call_later(ATTEMPT_SECONDS, self._give_up)
        reply = f"{self._inbox}.{token.decode()}"
        try:
            await self._connection.publish(append.subject, append.body, reply, _expectation(append) | headers)
            return await answer
        except NatsError as error:
            return _refused(error)
        finally:
            del self._unanswered[token]

    def _give_up(self) -> None:
        """Time out attempts that have waited too long. One timer serves all, as one each would cost too much."""
        loop = asyncio.get_running_loop()
        while self._due and (self._due[0][1].done() or self._due[0][0] <= loop.time()):
            _, answer = self._due.popleft()
            if not answer.done():
                answer.set_result(_TIMED_OUT)
        self._clock = loop.call_at(self._due[0][0], self._give_up) if self._due else None

    def _acknowledged(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        answer = self._unanswered.get(subject[subject.rindex(b".") + 1 :])
        if answer is None or answer.done():
            return
        if headers:  # an acknowledgement has none; this is the broker's status that no stream listens
            answer.set_result(Ack(error=ApiError(503, 0, "no stream answers")))
        else:
            answer.set_result(_ack_decoder.decode(body))


def _expectation(append: Append) -> dict[str, str]:
    """The headers that make it conditional. A sequence is of one stream only; that nothing is there yet, of any."""
    named = {} if append.guard[1] else {"Nats-Expected-Stream": append.stream}
    return {
        "Nats-Expected-Last-Subject-Sequence": str(append.guard[1]),
        "Nats-Expected-Last-Subject-Sequence-Subject": append.guard[0],
    } | named


def _refused(error: Exception) -> Ack:
    return Ack(error=ApiError(503, 0, f"the broker takes nothing now ({type(error).__name__})"))


def _settle(append: Append, ack: Ack) -> None:
    if not append.answer.done():
        append.answer.set_result(ack)
