"""Handing commits to a process of one's own, so that the next ones are read while these are worked on.

Reading the log and working on it each fill a processor core; in one process they would wait for each other. The child
(`events.worker.child`) reads batches from its standard input and answers each on its standard output. It ends when its
input does, so it cannot outlive its parent.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterable, Callable, Sequence

import msgspec

from events.log.consumer_reader import Batch
from events.log.stored_commit import Stored
from events.worker.child import LENGTH_BYTES

BUSY = 4
"""So many commits in one live batch tell of load."""
LINGER_SECONDS = 0.02
"""How far behind the log the child may fall under load, for a tenth of the processor time."""
BATCH = 2000
AHEAD = 4
"""So many batches wait at the child while it works: neither waits for the other."""

_encoder = msgspec.msgpack.Encoder()


class ChildGone(Exception):
    """The process ended while it was needed."""


class Pipe:
    """The parent's side: a process that runs `python -m module arguments…`, where `piped.serve` answers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._to_child = process.stdin
        self._from_child = process.stdout
        self._unanswered: deque[asyncio.Future[bytes]] = deque()
        self._gone: ChildGone | None = None
        self._answers = asyncio.create_task(self._read_answers())

    @classmethod
    async def start(cls, module: str, *arguments: str) -> "Pipe":
        """Start the process. Its standard error is ours."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which then closes our input
        )
        return cls(process)

    async def feed(
        self, batches: AsyncIterable[Batch], answered: Callable[[asyncio.Future[bytes]], None], size: int = BATCH
    ) -> None:
        """Hand over everything that is read, `answered` hearing every answer.

        While more is waiting to be read it goes in batches of this `size`; otherwise whatever has arrived goes at once.
        """
        held: list[Stored] = []
        async for batch in batches:
            held += batch.commits
            while len(held) >= size or (held and batch.pending == 0):
                next_ones, held = held[:size], held[size:]
                (await self.hand_over(next_ones)).add_done_callback(answered)
                if self._gone is not None:
                    return  # the answer says so
                if batch.pending == 0 and len(next_ones) >= BUSY:
                    await asyncio.sleep(LINGER_SECONDS)  # many come at once: let more come, and be one transaction
        if held:
            (await self.hand_over(held)).add_done_callback(answered)

    async def hand_over(self, commits: Sequence[Stored]) -> "asyncio.Future[bytes]":
        """Send a batch; what this gives is the child's answer to it, or `ChildGone`.

        Waits while the child has enough to do, so a fast reader holds a bounded number of commits.
        """
        while len(self._unanswered) >= AHEAD and self._gone is None:
            await asyncio.wait([self._unanswered[0]])
        if self._to_child.is_closing():
            await asyncio.wait([self._answers])  # the child is gone: that tells how
        batch = _encoder.encode(commits)
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
                answer = await self._from_child.readexactly(length)
                self._unanswered.popleft().set_result(answer)
        except (OSError, asyncio.IncompleteReadError):
            self._gone = ChildGone(f"exit code {await self._process.wait()}")
            for unanswered in self._unanswered:
                if not unanswered.done():
                    unanswered.set_exception(self._gone)

    async def close(self) -> None:
        """Let the child finish what it has, and wait for its end."""
        self._to_child.close()
        await self._answers
