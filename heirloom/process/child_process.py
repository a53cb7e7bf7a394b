"""A process of `heirloom up`: started, awaited, restarted when it dies, and stopped with its parent."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from events import files
from events.task_cancellation import end
from heirloom.process.process_report import ProcessReport, Reports

log = logging.getLogger("heirloom.up")

_PR_SET_PDEATHSIG = 1
RESTART_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Waited before a restart, longer after each failure in a row."""
STABLE_SECONDS = 10
"""A process that ran for longer had no failure in a row."""
REFUSED = 78
"""The exit status of a process that only a person can help: it is not restarted."""

MAX_REPORT = 1 << 20
"""Bytes of a report."""

IsReady: TypeAlias = Callable[[], Coroutine[Any, Any, bool]]
Record: TypeAlias = Callable[[asyncio.StreamReader], Coroutine[Any, Any, None]]
ProcessKind: TypeAlias = Literal["broker", "replica", "projector", "publisher", "notary"]


class ChildFailed(Exception):
    """A process ended before it was ready; the message is the last line it wrote."""


class Program(NamedTuple):
    """The program that a process runs. Its `name` is shown to people; standard error goes to `log_file`."""

    kind: ProcessKind
    name: str
    command: list[str]
    env: dict[str, str]
    log_file: Path | None = None
    pid_file: Path | None = None


class Child:
    """One process.

    `is_ready` tests from outside; without it the process writes `ready` to its standard output when it is.
    `reports`: the process answers `request_report` (`heirloom.process.process_report`). For a process that does not,
    `record` reads its standard output to the end.
    """

    def __init__(
        self, program: Program, *, is_ready: IsReady | None = None, reports: bool = True, record: Record | None = None
    ) -> None:
        self.program = program
        self.reports = reports
        self._is_ready = is_ready
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._record = record
        self._recording: asyncio.Task[None] | None = None
        self._reports: Reports | None = None

    @property
    def name(self) -> str:
        """The name that people read."""
        return self.program.name

    @property
    def kind(self) -> ProcessKind:
        """What the process is for."""
        return self.program.kind

    @property
    def log_file(self) -> Path | None:
        """The file of its standard error, if it goes to one."""
        return self.program.log_file

    @property
    def is_running(self) -> bool:
        """Whether the process runs now."""
        return self._process is not None and self._process.returncode is None

    async def request_report(self, seconds: float) -> ProcessReport | None:
        """The process's report; None while it does not run. Concurrent callers share one answer.

        Raises `TimeoutError` where a running process does not answer within so many seconds.
        """
        if self._reports is None or not self.is_running:
            return None
        async with asyncio.timeout(seconds):
            return await self._reports.request()

    async def start(self) -> None:
        """Start the process and wait until it is ready; from then on it is restarted whenever it dies.

        Raises `ChildFailed` where it ends before it is ready.
        """
        await self._spawn()
        self._watch = asyncio.create_task(self._restart_for_ever())

    async def stop(self, seconds: float) -> None:
        """Send SIGTERM, and SIGKILL where the process has not ended within so many seconds."""
        if self._watch is not None:
            await end((self._watch,))  # first: it may be restarting the process just now
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
        if self.program.pid_file is not None:
            self.program.pid_file.unlink(missing_ok=True)  # its number may soon be another process's

    async def _spawn(self) -> None:
        program = self.program
        errors = program.log_file.open("ab") if program.log_file else None
        output = self._begin_recording(self._record) if self._record else None
        try:
            spawning = asyncio.create_task(
                asyncio.create_subprocess_exec(
                    *program.command,
                    env=program.env | ({"HEIRLOOM_LOG": str(program.log_file)} if program.log_file else {}),
                    stdin=asyncio.subprocess.PIPE,  # its end tells the child that its parent is gone
                    stdout=asyncio.subprocess.PIPE if output is None else output,
                    stderr=errors,
                    limit=MAX_REPORT,
                    start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
                    preexec_fn=_die_with_parent if sys.platform == "linux" and self._is_ready else None,
                )
            )
            try:
                await asyncio.shield(spawning)
            finally:  # also where the start is cancelled: whatever was begun is there for `stop` to end
                self._process = await spawning
        finally:
            if errors is not None:
                errors.close()
            if output is not None:
                os.close(output)
        self._reports = Reports(self._process) if output is None else None
        if program.pid_file is not None:
            files.replace(program.pid_file, str(self._process.pid).encode())
        if self._is_ready is not None:
            await self._until_ready(self._is_ready)
        elif self._reports is None or not await self._reports.ready():
            raise ChildFailed(await self._last_line())

    def _begin_recording(self, record: Record) -> int:
        """The write end of a pipe. uvloop would make a socket, which a broker cannot open by its name."""
        pipe, output = os.pipe()
        self._recording = asyncio.create_task(_read_to_end(record, pipe))
        return output

    async def _until_ready(self, is_ready: IsReady) -> None:
        assert self._process is not None
        while not await is_ready():
            if self._process.returncode is not None:
                raise ChildFailed(await self._last_line())
            await asyncio.sleep(0.02)

    async def _last_line(self) -> str:
        """Why the process ended: the last error that it wrote for a person."""
        assert self._process is not None
        code = await self._process.wait()
        if self._recording is not None:
            await self._recording
        lines = self.log_file.read_text(errors="replace").strip().splitlines() if self.log_file else []
        error = next((line for line in reversed(lines) if line.startswith(("heirloom: ", "nats-server: "))), None)
        if error is None and lines and not lines[-1].startswith("{"):
            error = lines[-1]
        return (error or f"{self.name} ended with status {code}; see {self.log_file}").removeprefix("heirloom: ")

    async def _restart_for_ever(self) -> None:
        failures = 0
        while True:
            assert self._process is not None
            started = asyncio.get_running_loop().time()
            await self._process.wait()
            if self._process.returncode == REFUSED:
                log.error("%s", await self._last_line())
                return
            lived = asyncio.get_running_loop().time() - started
            failures = 0 if lived > STABLE_SECONDS else failures + 1
            log.warning("%s ended with status %s; starting it again", self.name, self._process.returncode)
            await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])
            try:
                await self._spawn()
            except (ChildFailed, OSError) as error:  # on a full disk not even the pid file can be written
                log.error("%s does not come up: %s", self.name, error)


async def _read_to_end(record: Record, pipe: int) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
    )
    try:
        await record(reader)
    finally:
        transport.close()


def _die_with_parent() -> None:
    # a process that does not watch its standard input would outlive a killed parent
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
