"""Runs a worker process on commits, so that the next ones are read while it works on these.

Reading the log and working on it each fill a processor core; in one process they would wait for each other. The child
(`events.worker.child`) reads batches from its standard input and writes an answer to each on its standard output. It
ends when its input does, so it cannot outlive its parent.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import msgspec

from events.log.consumer_reader import Batch
from events.log.stored_message import StoredMessage
from events.task_cancellation import end
from events.worker.child import LENGTH_BYTES

BUSY_BATCH = 4
"""A live batch with at least so many commits is a sign of load."""
LINGER_SECONDS = 0.02
"""How far the child may fall behind the log under load. That saves a tenth of the processor time."""
BATCH_SIZE = 2000
"""Commits in one batch while more are waiting to be read."""
MAX_AHEAD = 4
"""Batches that wait at the child while it works, so that neither side waits for the other."""

_encoder = msgspec.msgpack.Encoder()


class ChildGone(Exception):
    """The process ended while it was needed."""


async def run_worker(
    command: Sequence[str],
    batches: AsyncGenerator[Batch, None],
    answered: Callable[[bytes], object],
    size: int | None = None,
) -> bytes:
    """Run a worker on `batches`, and return its answer to an empty batch after the last one.

    `command` is a module, in which `child.serve` runs, and its arguments. `answered` receives the other answers; an
    error that it raises ends the work and is raised here. While more is waiting to be read, batches have `size` commits
    (`BATCH_SIZE` without one); otherwise they have what has arrived. Raises `ChildGone`. In any case the worker first
    finishes the batches it has, and has ended when this returns.
    """
    worker = await Worker.start(*command)
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def received(answer: asyncio.Future[bytes]) -> None:
        try:
            body = answer.result()
            if not failed.done():
                answered(body)
        except Exception as error:
            if not failed.done():
                failed.set_result(error)

    async def feed() -> bytes:
        async with aclosing(batches):
            await worker.feed(batches, received, size or BATCH_SIZE)
        return await (await worker.send([]))

    feeding = asyncio.create_task(feed())
    try:
        await asyncio.wait((feeding, failed), return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise failed.result()
        return feeding.result()
    finally:
        await end((feeding,))
        await worker.close()


class Worker:
    """The parent's side of a process that runs `python -m module arguments…`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._to_child = process.stdin
        self._from_child = process.stdout
        self._unanswered: deque[asyncio.Future[bytes]] = deque()
        self._gone: ChildGone | None = None
        self._answers = asyncio.create_task(self._read_answers())

    @classmethod
    async def start(cls, module: str, *arguments: str) -> "Worker":
        """Start the process. It writes errors to our standard error."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which then closes the child's input
        )
        return cls(process)

    async def feed(
        self, batches: AsyncGenerator[Batch, None], answered: Callable[[asyncio.Future[bytes]], None], size: int
    ) -> None:
        """Send all messages in batches as `run_worker` describes; `answered` receives every answer."""
        held: list[StoredMessage] = []
        async for batch in batches:
            held += batch.messages
            while len(held) >= size or (held and batch.pending == 0):
                next_ones, held = held[:size], held[size:]
                (await self.send(next_ones)).add_done_callback(answered)
                if self._gone is not None:
                    return  # the answer raises `ChildGone`
                if batch.pending == 0 and len(next_ones) >= BUSY_BATCH:
                    await asyncio.sleep(LINGER_SECONDS)  # under load: let more arrive, for one larger transaction
        if held:
            (await self.send(held)).add_done_callback(answered)

    async def send(self, messages: Sequence[StoredMessage]) -> "asyncio.Future[bytes]":
        """Send a batch. Returns a future of the child's answer, or of `ChildGone`.

        Waits while the child has `MAX_AHEAD` batches to work on, so a fast reader holds a bounded number of messages.
        """
        while len(self._unanswered) >= MAX_AHEAD and self._gone is None:
            await asyncio.wait([self._unanswered[0]])
        if self._to_child.is_closing():
            await asyncio.wait([self._answers])  # the child is gone, and this finds its exit code
        batch = _encoder.encode(messages)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._gone is not None:
            answer.set_exception(self._gone)
            return answer
        self._unanswered.append(answer)
        self._to_child.write(len(batch).to_bytes(LENGTH_BYTES) + batch)
        return answer

    async def _read_answers(self) -> None:
        try:
            while True:
                length = int.from_bytes(await self._from_child.readexactly(LENGTH_BYTES))
                body = await self._from_child.readexactly(length)
                if not (answer := self._unanswered.popleft()).cancelled():
                    answer.set_result(body)
        except (OSError, asyncio.IncompleteReadError):
            self._gone = ChildGone(f"exit code {await self._process.wait()}")
            for unanswered in self._unanswered:
                if not unanswered.done():
                    unanswered.set_exception(self._gone)

    async def close(self) -> None:
        """Close the child's input, and wait until it has finished its batches and ended."""
        self._to_child.close()
        await self._answers
