"""Commits handed to a process of one's own: what is heard when that process is killed, or hears no more itself."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
import uvloop

from events.log.stored_commit import Stored
from events.worker import child as piped
from events.worker import parent as pipes
from events.worker.parent import ChildGone, Pipe

PATIENCE_SECONDS, LATE_SECONDS = 20, 0.2
COMMITS = [Stored(1, "tokens.acme.tenant", b"{}")]


async def _hand_over_after_a_kill(file: Path) -> list[BaseException | None]:
    pipe = await Pipe.start("projections.projector.writer_process", str(file))
    await asyncio.wait([await pipe.hand_over(COMMITS)])
    wait = pipe._process.wait

    async def told_late() -> int:
        await asyncio.sleep(LATE_SECONDS)
        return await wait()

    pipe._process.wait = told_late  # type: ignore[method-assign]  # as on a busy machine
    os.kill(pipe._process.pid, signal.SIGKILL)
    answers = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while pipe._gone is None:
            answers.append(await pipe.hand_over(COMMITS))
            await asyncio.sleep(LATE_SECONDS / 10)
        answers.append(await pipe.hand_over(COMMITS))
        await asyncio.wait(answers)
    await pipe.close()
    return [answer.exception() for answer in answers]


def test_a_child_that_is_killed_is_told_of_by_every_answer(tmp_path: Path) -> None:
    """Whatever is handed over before, while and after its end is noticed; on the service's own event loop."""
    told = uvloop.run(_hand_over_after_a_kill(tmp_path / "model"))
    assert len(told) > 1 and all(isinstance(error, ChildGone) for error in told)


def test_a_child_that_can_receive_no_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for ever for a batch that nobody takes in."""

    def fail(_size: int) -> bytes:
        raise OSError("the input is broken")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=fail)))
    arrived: SimpleQueue[bytes] = SimpleQueue()
    with pytest.raises(OSError, match="broken"):
        piped._receive(arrived)
    assert arrived.get_nowait() == b""


def test_a_child_whose_parent_is_gone_ends_quietly(tmp_path: Path) -> None:
    """Nobody hears its answer: it ends as at the end of its input, without a word."""
    command = [sys.executable, "-m", "projections.projector.writer_process", str(tmp_path / "model")]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.close()
    batch = pipes._encoder.encode(COMMITS)
    _, said = child.communicate(len(batch).to_bytes(piped.LENGTH_BYTES) + batch, PATIENCE_SECONDS)
    assert (child.returncode, said) == (0, b"")
