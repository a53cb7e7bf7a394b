"""A process of `heirloom up`: its reports, its restart, and its stop during a restart."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from bench.machine import children
from heirloom.process import event_loop
from heirloom.process.child_process import Child, Program
from heirloom.supervisor import supervisor

PATIENCE_SECONDS = 20
READY_ONCE = """
import sys, time
from pathlib import Path
mark = Path(sys.argv[1])
if not mark.exists():
    mark.touch()
    print("ready", flush=True)
time.sleep(600)
"""
HINDERED = """
import sys
for _ in range(3):
    question = int(sys.stdin.readline())
    print('{"metrics":[],"obstacles":["no room"],"question":%d}' % question, flush=True)
print("ready", flush=True)
sys.stdin.read()
"""
ANSWERS_FIRST = """
import sys
print("no report", flush=True)
for obstacles in ('"it is starting"', ""):
    question = int(sys.stdin.readline())
    print('{"metrics":[],"obstacles":[%s],"question":%d}' % (obstacles, question), flush=True)
print("ready", flush=True)
sys.stdin.read()
"""


def child_of(program: str, *arguments: Path, pid_file: Path | None = None) -> Child:
    """A replica whose process runs this program."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return Child(Program("replica", "it", command, dict(os.environ), pid_file=pid_file))


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_requests_for_a_report_time_out_separately(tmp_path: Path) -> None:
    """A process without a reply fails each request after that request's own time."""
    child = child_of(READY_ONCE, tmp_path / "mark")
    await child.start()
    patient = asyncio.create_task(child.request_report(2 * PATIENCE_SECONDS))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(TimeoutError):
            await child.request_report(0.1)
    assert not patient.done()
    patient.cancel()
    await asyncio.wait((patient,))
    await child.stop(PATIENCE_SECONDS)


async def test_a_starting_process_already_reports(tmp_path: Path) -> None:
    """One task reads the reports and the ready line from one stream, in any order."""
    child = child_of(ANSWERS_FIRST)
    starting = asyncio.create_task(child.start())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not child.is_running:
            await asyncio.sleep(0.01)
        one, other = await asyncio.gather(
            child.request_report(PATIENCE_SECONDS), child.request_report(PATIENCE_SECONDS)
        )
        assert one is not None and one == other and one.obstacles == ("it is starting",)
        assert not starting.done()
        second = await child.request_report(PATIENCE_SECONDS)
        assert second is not None and second.question == 2 and not second.obstacles
        await starting
    await child.stop(PATIENCE_SECONDS)


async def test_an_obstacle_to_the_start_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, if the start takes long."""
    monkeypatch.setattr(supervisor, "OBSTACLE_SECONDS", 0.05)
    child = child_of(HINDERED)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await supervisor._start([child])
    await child.stop(PATIENCE_SECONDS)
    assert [record.getMessage() for record in caplog.records if record.name == "heirloom.up"] == [
        "it is not ready yet: no room"
    ]


async def test_a_report_of_a_killed_process_is_none(tmp_path: Path) -> None:
    """The request does not wait for the next process."""
    file = tmp_path / "pid"
    child = child_of(READY_ONCE, tmp_path / "mark", pid_file=file)
    await child.start()
    asking = asyncio.create_task(child.request_report(PATIENCE_SECONDS))
    await asyncio.sleep(0)
    os.kill(int(file.read_text()), 9)
    assert await asking is None
    await child.stop(PATIENCE_SECONDS)


async def test_stopping_during_a_restart_ends_the_second_process(tmp_path: Path) -> None:
    """It never prints that it is ready, and nothing else would end it."""
    file = tmp_path / "pid"
    child = child_of(READY_ONCE, tmp_path / "mark", pid_file=file)
    await child.start()
    first = file.read_text()
    os.kill(int(first), 9)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while file.read_text() in (first, ""):
            await asyncio.sleep(0.01)
    assert is_there(second := int(file.read_text()))
    await child.stop(PATIENCE_SECONDS)
    assert not is_there(second) and not child.is_running and not file.exists()


def test_recorded_output_is_a_pipe_on_every_event_loop() -> None:
    """A broker opens its standard output by name, which a socket does not allow; uvloop makes sockets."""
    recorded: list[bytes] = []

    async def record(said: asyncio.StreamReader) -> None:
        recorded.append(await said.read())

    async def ready() -> bool:
        return True

    async def main() -> None:
        opens = [sys.executable, "-c", "open('/dev/stdout', 'w').write('heard')"]
        child = Child(Program("replica", "it", opens, dict(os.environ)), is_ready=ready, record=record, reports=False)
        await child.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not recorded:
                await asyncio.sleep(0.01)
        await child.stop(PATIENCE_SECONDS)

    event_loop.run(main())
    assert b"".join(recorded) == b"heard"


def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    """On the event loop of `heirloom up`: a process that was just being started is there for `stop` to end."""

    async def main() -> None:
        for turns in range(20):
            child = child_of(READY_ONCE, tmp_path / f"mark{turns}")
            starting = asyncio.create_task(child.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait((starting,))
            await child.stop(PATIENCE_SECONDS)
            assert children(os.getpid()) == before

    before = children(os.getpid())
    event_loop.run(main())
