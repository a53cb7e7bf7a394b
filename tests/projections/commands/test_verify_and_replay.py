"""`heirloom audit verify` and `replay` on a real log, and the times that commands accept."""

import asyncio
import sqlite3
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from events.bus.connect import connect
from heirloom.cli.audit.group import audit
from heirloom.cli.audit.replay import replay_log
from heirloom.cli.audit.verify import verify_log
from heirloom.cli.main import main
from heirloom.cli.time_param import MomentParam, TimeParam
from projections.projector.feed import Extent
from projections.projector.writer_process import Outcome
from projections.read_model import ReadModel
from tests.broker import Broker
from tests.projections.logs import LogMaker, eventful_log
from tests.projections.projector.test_projector import publish
from tests.projections.test_read_model import dump
from tests.system.service import HEIRLOOM

LOG = eventful_log()


async def test_verify_and_replay(nats_server: Broker, tmp_path: Path) -> None:
    """The log verifies; a replay equals a read model of that position; a repeated commit is found."""
    await publish(nats_server, LOG)
    connection = await connect(nats_server.url, "test")
    steps: list[int] = []
    report = await verify_log(connection, len(LOG), steps.append)
    assert (report.commits, report.fault, steps[-1]) == (len(LOG), None, len(LOG))
    assert await replay_log(connection, tmp_path / "then", Extent(until=20), steps.append) == 20
    model = ReadModel(tmp_path / "direct")
    model.apply(LOG[:20])
    model.close()
    assert dump(tmp_path / "then") == dump(tmp_path / "direct")
    part = Extent(until=len(LOG), filter="tokens.*.family.f2.*")
    assert await replay_log(connection, tmp_path / "part", part, steps.append) > 0
    with sqlite3.connect(tmp_path / "part") as reading:
        assert reading.execute("SELECT family_id, generation FROM families").fetchall() == [("f2", 3)]
    reading.close()
    again = replace(LOG[20], seq=len(LOG) + 1)
    await publish(nats_server, [again])
    fault = (await verify_log(connection, again.seq, steps.append)).fault
    assert fault is not None
    assert fault.seq == again.seq
    await connection.close()


async def test_an_interrupted_replay_resumes(
    nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few commits, then to a moment, then to the end: every row as without an interruption."""
    monkeypatch.setattr("events.log.direct_reader.REQUEST_SIZE", 8)
    monkeypatch.setattr("events.worker.parent.BATCH_SIZE", 8)
    await publish(nats_server, LOG)
    connection = await connect(nats_server.url, "test")
    broken_off = tmp_path / "broken off"

    def break_off(_: int) -> None:
        replaying.cancel()

    replaying = asyncio.create_task(replay_log(connection, broken_off, Extent(until=len(LOG)), break_off))
    with pytest.raises(asyncio.CancelledError):
        await replaying
    assert await replay_log(connection, tmp_path / "whole", Extent(until=len(LOG)), lambda _: None) == len(LOG)
    await connection.close()
    for until in (("--until", "2026-11-20T12:00:45Z"), ()):
        assert (await replay(nats_server, "--resume", "--into", str(broken_off), *until)).exit_code == 0
    assert dump(broken_off) == dump(tmp_path / "whole")


async def test_a_replay_resumes_only_its_own_file(nats_server: Broker, tmp_path: Path) -> None:
    """Not another log's, one family's, one that is further than asked for, or a file of another kind."""
    await publish(nats_server, LOG)
    other, part, file = tmp_path / "other", tmp_path / "part", tmp_path / "file"
    made = LogMaker()
    made.open("g1")
    model = ReadModel(other)
    model.apply(made.log)
    model.close()
    assert (await replay(nats_server, "--family", "f2", "--into", str(part))).exit_code == 0
    assert (await replay(nats_server, "--into", str(file), "--until", "20")).exit_code == 0
    (tmp_path / "garbage").write_bytes(b"no database" * 1000)
    for options, why in (
        (("--into", str(other), "--resume"), "made from another log"),
        (("--into", str(part), "--resume"), "one family alone"),
        (("--into", str(file), "--resume", "--until", "19"), "as of sequence 20 already"),
        (("--into", str(tmp_path / "garbage"), "--resume"), "no read model"),
        (("--into", str(file)), "exists already"),
        (("--into", str(tmp_path / "nowhere" / "file")), "cannot be written"),
    ):
        refused = await replay(nats_server, *options)
        assert (refused.exit_code, why in refused.output) == (1, True), refused.output


async def test_each_replay_has_its_own_file(
    nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none is named; --resume goes on with the newest."""
    monkeypatch.chdir(tmp_path)
    await publish(nats_server, LOG)
    for until, file in (("10", "replay.db"), ("20", "replay-2.db")):
        assert (
            await replay(nats_server, "--until", until)
        ).output == f"{file} is the read model as of sequence {until}\n"
    await replay(nats_server, "--resume", "--until", "30")
    made = await asyncio.to_thread(lambda: sorted(path.name for path in tmp_path.glob("replay*.db")))
    assert made == ["replay-2.db", "replay.db"]
    assert dump(tmp_path / "replay-2.db") != dump(tmp_path / "replay.db")


@pytest.mark.parametrize("form", ["unwritable", "damaged"])
async def test_a_failed_replay_names_its_file(
    nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """With what to do, beside SQLite's own words."""
    await publish(nats_server, LOG[:1])

    async def feed(*_: object, **__: object) -> Outcome:
        said = "database or disk is full"
        return Outcome(0, unwritable=said) if form == "unwritable" else Outcome(0, damaged=said)

    monkeypatch.setattr("heirloom.cli.audit.replay.feed", feed)
    said = (await replay(nats_server, "--into", str(tmp_path / "file"))).output
    assert f"{tmp_path / 'file'} " in said and ": database or disk is full; " in said and "--" in said


async def test_a_malformed_family_id_is_a_usage_error(nats_server: Broker) -> None:
    refused = await replay(nats_server, "--family", "f.*")
    assert (refused.exit_code, "--family: 'f.*' is no family's id" in refused.output) == (2, True)


async def replay(broker: Broker, *options: str) -> Result:
    """Run `heirloom audit replay` with these options."""
    command = ["audit", "replay", "--nats", broker.url, *options]
    return await asyncio.to_thread(CliRunner().invoke, main, command)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    "command",
    [("--help",), ("export",), ("export", "--format", "csv"), ("verify",), ("verify", "--json"), ("export", "--help")],
    ids=" ".join,
)
def test_output_that_cannot_be_written(nats_server: Broker, command: tuple[str, ...]) -> None:
    """A full disk is reported in one line, with exit code 1."""
    asyncio.run(publish(nats_server, LOG))
    nats = () if "--help" in command else ("--nats", nats_server.url)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [HEIRLOOM, "audit", *command, *nats], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "Error: cannot write the answer: No space left on device\n")


@pytest.mark.parametrize("command", ["--version", "up --help", "audit export", "audit incidents", "audit verify"])
def test_a_closed_standard_output(command: str, tmp_path: Path) -> None:
    """It is reported in one line before anything is done, with exit code 1."""
    closing = ["sh", "-c", 'exec "$@" >&-', "sh", str(HEIRLOOM), *command.split()]
    done = subprocess.run(closing, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "Error: cannot write the answer: standard output is closed\n")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "2x",
            "d",
            "tomorrow",
            "²",
            "2026-11-30-23",
            "2026-11-20+05:00",
            "2026-11-20110",
            "2026-13-01T00:00:00Z",
            "99999999999d",
            "999999999d",
            "9" * 5000,
        ),
        *("0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"),
        *("2026-11-30-23", "2026-11-20+05:00", "2026-11-20110", "2026-11-20:12"),
    ],
)
def test_malformed_times_are_refused(text: str) -> None:
    """As a usage error, before any request; none of them is a sequence either."""
    for kind in (TimeParam(), MomentParam()):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


def test_since_a_time_to_come_is_refused() -> None:
    """Nothing has happened since then: that is no answer to whatever was meant."""
    for kind in (TimeParam(past=True), MomentParam(past=True)):
        with pytest.raises(click.BadParameter, match="still to come"):
            kind.convert("2100-01-01", None, None)


def test_a_day_at_the_beginning_of_time_is_refused() -> None:
    """In any time zone: the search for its UTC date starts a day earlier."""
    with pytest.raises(click.BadParameter, match="out of range"):
        TimeParam(end_of_day=True).convert("0001-01-01", None, None)


def test_times_are_relative_or_absolute() -> None:
    """For a replay also a sequence."""
    ago = datetime.now(UTC) - TimeParam().convert("2d", None, None)
    assert abs(ago - timedelta(days=2)) < timedelta(minutes=1)
    assert TimeParam().convert("2026-11-20", None, None) == datetime(2026, 11, 20).astimezone()
    last = datetime(2026, 11, 20, 23, 59, 59, 999_999).astimezone()
    assert TimeParam(end_of_day=True).convert("2026-11-20", None, None) == last
    assert MomentParam(end_of_day=True).convert("2026-11-20", None, None) == last
    assert TimeParam().convert("2026-11-20T20:31:00Z", None, None) == datetime(2026, 11, 20, 20, 31, tzinfo=UTC)
    assert MomentParam().convert("41", None, None) == 41


@pytest.mark.parametrize("command", ["families", "revocations", "activity", "search", "export", "replay", "what-if"])
def test_a_day_as_until_is_included(command: str) -> None:
    """From its beginning until its end, in the caller's time zone."""
    options = {option: param for param in audit_command(command).params for option in param.opts}
    beginning = datetime(2026, 11, 20).astimezone()
    end = datetime(2026, 11, 20, 23, 59, 59, 999999).astimezone()
    until = options["--until"]
    assert until.type.convert("2026-11-20", until, None) == end
    assert until.type.convert("2026-11-20T20:31:00Z", until, None) == datetime(2026, 11, 20, 20, 31, tzinfo=UTC)
    if "--since" in options:
        since = options["--since"]
        assert since.type.convert("2026-11-20", since, None) == beginning


def audit_command(name: str) -> click.Command:
    """`heirloom audit NAME`."""
    found = audit.get_command(click.Context(audit), name)
    assert found is not None
    return found
