"""A process of `heirloom up`: started, waited for, started again when it dies, ended with its parent."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from events.task_cancellation import end
from heirloom.process.process_report import Report, Reports

log = logging.getLogger("heirloom.up")

_PR_SET_PDEATHSIG = 1
RESTART_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
REFUSED = 78
"""The exit status of a process that only a person can help: it is not started again."""

Record = Callable[[asyncio.StreamReader], Coroutine[Any, Any, None]]

ANSWER_BYTES = 1 << 20
"""A report is not longer."""


class ChildFailed(Exception):
    """A process ended before it was ready; its own last words are the message."""


class Child:
    """One process. `is_ready` tells from outside; without it the process says `ready` on its standard output.

    `reports` says whether it can be asked (`heirloom.process.process_report`). `record` takes down what such a process
    says on its standard output, to the end.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        env: dict[str, str],
        *,
        is_ready: Callable[[], Coroutine[Any, Any, bool]] | None = None,
        pid_file: Path | None = None,
        errors: Path | None = None,
        reports: bool = True,
        record: Record | None = None,
    ) -> None:
        self.name = name
        self.reports = reports
        self._command = command
        self._env = env
        self._is_ready = is_ready
        self._pid_file = pid_file
        self._errors = errors
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._record = record
        self._recording: asyncio.Task[None] | None = None
        self._reports: Reports | None = None

    @property
    def words(self) -> Path | None:
        """The file its standard error goes to, if it goes to one."""
        return self._errors

    @property
    def is_running(self) -> bool:
        """Whether there is such a process now."""
        return self._process is not None and self._process.returncode is None

    async def ask(self, seconds: float) -> Report | None:
        """What it reports (`heirloom.process.process_report`); None if there is no such process now.

        Raises `TimeoutError` when there is one and it does not answer in that time. Who asks while another's question
        is not answered yet gets the answer to that one.
        """
        if self._reports is None or not self.is_running:
            return None
        async with asyncio.timeout(seconds):
            return await self._reports.ask()

    async def start(self) -> None:
        """Start it and wait until it is ready; from then on it is started again whenever it dies.

        Raises `ChildFailed` when it ends first.
        """
        await self._spawn()
        self._watch = asyncio.create_task(self._restart_for_ever())

    async def stop(self, seconds: float) -> None:
        """SIGTERM, and SIGKILL for what has not ended in that time."""
        if self._watch is not None:
            await end((self._watch,))  # first: it may be starting the process that is to be ended
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(seconds):
                    await process.wait()
            except TimeoutError:
                log.warning("%s did not end in %s s; killed", self.name, seconds)
                process.kill()
                await process.wait()
        if self._reports is not None:
            await end((self._reports.reading,))
        if self._recording is not None:
            await self._recording
        if self._pid_file is not None:
            self._pid_file.unlink(missing_ok=True)  # its number may soon be another process's

    async def _spawn(self) -> None:
        errors = self._errors.open("ab") if self._errors else None
        said = self._begin_recording(self._record) if self._record else None
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._env | ({"HEIRLOOM_LOG": str(self._errors)} if self._errors else {}),
                stdin=asyncio.subprocess.PIPE,  # its end tells the child that its parent is gone
                stdout=asyncio.subprocess.PIPE if said is None else said,
                stderr=errors,
                limit=ANSWER_BYTES,
                start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
                preexec_fn=_die_with_parent if sys.platform == "linux" and self._is_ready else None,
            )
        finally:
            if errors is not None:
                errors.close()
            if said is not None:
                os.close(said)
        self._reports = Reports(self._process) if said is None else None
        if self._pid_file is not None:
            self._pid_file.write_text(str(self._process.pid))
        if self._is_ready is not None:
            await self._seen_ready(self._is_ready)
        elif self._reports is None or not await self._reports.ready():
            raise ChildFailed(await self._last_words())

    def _begin_recording(self, record: Record) -> int:
        """The end to write to. It is a pipe: a broker opens its standard output by name, and uvloop makes sockets."""
        pipe, said = os.pipe()
        self._recording = asyncio.create_task(_recorded(record, pipe))
        return said

    async def _seen_ready(self, is_ready: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        assert self._process is not None
        while not await is_ready():
            if self._process.returncode is not None:
                raise ChildFailed(await self._last_words())
            await asyncio.sleep(0.02)

    async def _last_words(self) -> str:
        assert self._process is not None
        code = await self._process.wait()
        if self._recording is not None:
            await self._recording
        words = self._errors.read_text(errors="replace").strip().splitlines() if self._errors else []
        said = next((line for line in reversed(words) if line.startswith(("heirloom: ", "nats-server: "))), None)
        if said is None and words and not words[-1].startswith("{"):
            said = words[-1]
        return (said or f"{self.name} ended with status {code}; see {self._errors}").removeprefix("heirloom: ")

    async def _restart_for_ever(self) -> None:
        failures = 0
        while True:
            assert self._process is not None
            started = asyncio.get_running_loop().time()
            await self._process.wait()
            if self._process.returncode == REFUSED:
                log.error("%s", await self._last_words())
                return
            lived = asyncio.get_running_loop().time() - started
            failures = 0 if lived > 10 else failures + 1
            log.warning("%s ended with status %s; starting it again", self.name, self._process.returncode)
            await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])
            try:
                await self._spawn()
            except (ChildFailed, OSError) as error:  # a full disk, perhaps, where even its number cannot be noted
                log.error("%s does not come up: %s", self.name, error)


async def _recorded(record: Record, pipe: int) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
    )
    try:
        await record(reader)
    finally:
        transport.close()


def _die_with_parent() -> None:
    # a process that does not watch its standard input would outlive a parent that was killed
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
