"""Worker processes: their answers, and what happens when they are killed, fail, or lose their parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
import uvloop

from events.log.consumer_reader import Batch
from events.log.stored_message import StoredMessage
from events.worker import child, parent
from events.worker.parent import ChildGone, Worker, run_worker
from projections.projector import writer_process

TIMEOUT_SECONDS, LATE_SECONDS = 20, 0.2
COMMITS = [StoredMessage(1, "tokens.acme.tenant", b"{}")]
ECHO = "tests.events.worker.echo"


async def _send_after_a_kill(file: Path) -> list[BaseException | None]:
    worker = await Worker.start(writer_process.MODULE, str(file))
    await asyncio.wait([await worker.send(COMMITS)])
    wait = worker._process.wait

    async def told_late() -> int:
        await asyncio.sleep(LATE_SECONDS)
        return await wait()

    worker._process.wait = told_late  # type: ignore[method-assign]  # as on a busy machine
    os.kill(worker._process.pid, signal.SIGKILL)
    answers = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while worker._gone is None:
            answers.append(await worker.send(COMMITS))
            await asyncio.sleep(LATE_SECONDS / 10)
        answers.append(await worker.send(COMMITS))
        await asyncio.wait(answers)
    await worker.close()
    return [answer.exception() for answer in answers]


def test_every_answer_of_a_killed_child_is_an_error(tmp_path: Path) -> None:
    """Batches sent before, while and after its end is noticed; on the service's own event loop."""
    errors = uvloop.run(_send_after_a_kill(tmp_path / "model"))
    assert len(errors) > 1 and all(isinstance(error, ChildGone) for error in errors)


def test_a_child_that_cannot_receive_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for batches for ever."""

    def fail(_size: int) -> bytes:
        raise OSError("the input is broken")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=fail)))
    arrived: SimpleQueue[bytes] = SimpleQueue()
    with pytest.raises(OSError, match="broken"):
        child._receive(arrived)
    assert arrived.get_nowait() == b""


def test_a_child_whose_parent_is_gone_ends_quietly(tmp_path: Path) -> None:
    """Its answer has no reader, so it ends without output, as at the end of its input."""
    command = [sys.executable, "-m", writer_process.MODULE, str(tmp_path / "model")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    batch = parent._encoder.encode(COMMITS)
    _, output = process.communicate(len(batch).to_bytes(child.LENGTH_BYTES) + batch, TIMEOUT_SECONDS)
    assert (process.returncode, output) == (0, b"")


async def _batches(endless: bool) -> AsyncGenerator[Batch, None]:
    """Three batches of one commit each; then it waits for ever or ends."""
    for seq in (1, 2, 3):
        yield Batch([StoredMessage(seq, "tokens.acme.tenant", b"{}")], 0)
    if endless:
        await asyncio.Event().wait()


async def test_a_worker_answers_every_batch_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order; an empty batch after the last one marks the end."""
    monkeypatch.setattr(parent, "BATCH_SIZE", 1)
    answers: list[bytes] = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        last = await run_worker([ECHO], _batches(endless=False), answers.append)
    assert (answers, last) == ([b"1", b"2", b"3"], b"end")


@pytest.mark.parametrize("endless", [True, False])
async def test_an_error_in_the_answer_handler_ends_the_work(endless: bool) -> None:
    """It is raised once the worker has ended, with and without further batches."""

    def answered(answer: bytes) -> None:
        raise ValueError(answer.decode())

    async with asyncio.timeout(TIMEOUT_SECONDS):
        with pytest.raises(ValueError, match="1"):
            await run_worker([ECHO], _batches(endless), answered)


async def test_a_worker_that_cannot_start_is_gone() -> None:
    """Its batches are not answered."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        with pytest.raises(ChildGone, match="exit code 1"):
            await run_worker(["tests.events.worker.nothing"], _batches(endless=True), lambda _: None)


async def test_an_answer_nobody_awaits_is_dropped() -> None:
    """It was cancelled; the worker ends in order."""
    worker = await Worker.start(ECHO)
    (await worker.send(COMMITS)).cancel()
    last = await worker.send([])
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await worker.close()
    assert last.result() == b"end"
