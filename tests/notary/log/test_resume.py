"""An interrupted verification resumes where it stopped, in bounded memory."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from events.aggregates.aggregate_names import CHECKPOINTS, STREAM
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.consumer_reader import Batch
from events.log.stored_message import StoredMessage
from events.verification import aggregate_store
from events.verification import verifier as verify
from events.verification.aggregate_store import AggregateStore, Unusable
from events.verification.verifier import Report
from heirloom.cli.audit import verify as command
from heirloom.cli.main import main
from notary.log_verifier import LogVerifier, Terms, VerificationProgress, interrupted
from notary.merged_reader import Place, read_with_checkpoints
from notary.signed_note import Signer
from tests.broker import Broker
from tests.notary.log.logs import checkpoints_of, empty, in_place, rotated_log
from tests.projections.logs import eventful_log

SIGNER = Signer.fresh("heirloom/1")
LOG = eventful_log()
MESSAGES = in_place(LOG, checkpoints_of(LOG, SIGNER, 10, 20, 30))


def undisturbed(messages: list[StoredMessage]) -> Report:
    """The report of a verification without an interruption."""
    verifier = LogVerifier(VerificationProgress("", _terms()))
    verifier.check(messages)
    verifier.end(len(LOG))
    return verifier.report()


def _terms() -> Terms:
    return Terms((str(SIGNER.key),))


@pytest.mark.parametrize("altered", [0, 9, 25])
def test_it_resumes_after_any_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, altered: int) -> None:
    """After many interruptions, with most of its memory on disk: the report is that of one run, good or bad."""
    monkeypatch.setattr(aggregate_store, "MAX_RECENT", 4)
    messages = [
        replace(each, body=each.body.replace(b'"v":1', b'"actor":"x","v":1')) if each.seq == altered else each
        for each in MESSAGES
    ]
    path, progress, held = tmp_path / "state", VerificationProgress("", _terms()), AggregateStore()
    for start in range(0, len(messages), 7):
        verifier = LogVerifier(progress, held)
        verifier.check(messages[start : start + 7])
        held.make_room()
        held.save(path, msgspec.json.encode(verifier.progress()))
        held.close()
        progress, held = interrupted(path), AggregateStore(path)
    verifier = LogVerifier(progress, held)
    verifier.end(len(LOG))
    held.close()
    assert verifier.report() == undisturbed(messages)
    assert (verifier.report().fault is None) == (altered == 0)


@pytest.mark.parametrize("agrees", [True, False])
@pytest.mark.parametrize("stop", [16, 17, 18])
def test_it_resumes_exactly_where_the_kept_checkpoint_ends(stop: int, agrees: bool) -> None:
    """Or one commit before or after: the kept checkpoint is compared, and a contradiction is not forgotten."""
    (kept,) = checkpoints_of(LOG if agrees else rotated_log(0).log, SIGNER, 17)
    reports = []
    for stops in ([], [stop]):
        progress = VerificationProgress("", Terms((str(SIGNER.key),), kept.signed))
        with closing(AggregateStore()) as held:
            for start, end in pairwise([0, *stops, len(LOG)]):
                verifier = LogVerifier(progress, held)
                verifier.check(LOG[start:end])
                progress = verifier.progress()
            verifier.end(len(LOG))
            reports.append(verifier.report())
    assert reports[0] == reports[1]
    assert (reports[0].covered, reports[0].fault is None) == ((17, True) if agrees else (0, False))


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than a kilobyte an aggregate, and no more aggregates than allowed, however many there are."""
    monkeypatch.setattr(aggregate_store, "MAX_RECENT", 5)
    monkeypatch.setattr(verify, "MAX_RECENT", 2)
    held = AggregateStore()
    verifier = LogVerifier(VerificationProgress(""), held)
    sizes = []
    for place in range(0, len(LOG), 3):
        verifier.check(LOG[place : place + 3])
        sizes += [sys.getsizeof(name) + sys.getsizeof(last) for name, last in held.items()]
        held.make_room()
        assert len(held) <= 5
    held.close()
    assert max(sizes) < 1000
    assert verifier.report().aggregates == 15


async def write(url: str, log: list[StoredMessage]) -> None:
    """Replace the stored log by this one and its checkpoints."""
    connection = await connect(url, "test")
    await stream.ensure(connection, stream.Required())
    await empty(connection, STREAM, CHECKPOINTS)
    for stored in in_place(log, checkpoints_of(log, SIGNER, 5, 10)):
        await connection.jetstream().publish(stored.subject, stored.body)
    await connection.close()


def heirloom(url: str, *arguments: str) -> Result:
    """`audit verify` in this process."""
    return CliRunner().invoke(main, ["audit", "verify", "--nats", url, "--key", str(SIGNER.key), *arguments])


@pytest.fixture
def broken_off(nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state file that Ctrl-C leaves after seven commits and a checkpoint."""

    async def seven(connection: Connection, end: int, after: Place, _keys: object) -> AsyncGenerator[Batch, None]:
        async for batch in read_with_checkpoints(connection, 7, after):
            yield batch
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    asyncio.run(write(nats_server.url, rotated_log(0, 1, 2, 3, 4, 0).log))
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
    try:
        with monkeypatch.context() as patched:
            patched.setattr(command, "read_with_checkpoints", seven)
            done = heirloom(nats_server.url)
    finally:
        signal.signal(signal.SIGINT, before)
    (state,) = tmp_path.glob("*.state")
    assert done.exit_code == 130
    how = f"interrupted at sequence 7, without a fault so far; to go on: the same command with --resume {state.name}"
    assert how in done.output
    assert interrupted(state).seen.checkpoints == 1
    assert state.stat().st_mode & 0o777 == 0o600
    return state


def test_ctrl_c_prints_how_to_resume(nats_server: Broker, broken_off: Path) -> None:
    """The resumed run reports what one run would, and removes the file."""
    done = heirloom(nats_server.url, "--resume", str(broken_off), "--json")
    assert done.exit_code == 0, done.output
    whole = heirloom(nats_server.url, "--json")
    resumed, at_once = (msgspec.json.decode(each.stdout, type=dict[str, object]) for each in (done, whole))
    assert {**resumed, "seconds": 0} == {**at_once, "seconds": 0}
    assert (at_once["commits"], at_once["checkpoints"], at_once["covered"]) == (19, 2, 10)
    assert not broken_off.exists()


def test_another_log_is_not_resumed(nats_server: Broker, broken_off: Path, tmp_path: Path) -> None:
    """Nor the same commits in another stream, nor with other keys; a file of another kind is refused."""
    other = heirloom(nats_server.url, "--resume", str(broken_off), "--key", str(Signer.fresh("heirloom/2").key))
    assert "held against other keys or another checkpoint" in other.output
    progress = interrupted(broken_off)
    forged = progress._replace(seen=msgspec.structs.replace(progress.seen, last_leaf=b"another"))
    with closing(AggregateStore(broken_off)) as held:
        held.save(tmp_path / "forged", msgspec.json.encode(forged))
    assert "another commit at 7" in heirloom(nats_server.url, "--resume", str(tmp_path / "forged")).output
    asyncio.run(write(nats_server.url, rotated_log(0, 1, 2, 3, 4, 0).log))
    another = heirloom(nats_server.url, "--resume", str(broken_off))
    assert (another.exit_code, "is of another log" in another.output) == (1, True)
    (tmp_path / "garbage").write_text("garbage")
    assert "no interrupted verification" in heirloom(nats_server.url, "--resume", str(tmp_path / "garbage")).output


def test_a_state_that_cannot_be_saved(tmp_path: Path) -> None:
    """Because the disk is full, or the directory does not exist: the error says so."""
    with closing(AggregateStore()) as held, pytest.raises(Unusable, match="cannot be written"):
        held.save(tmp_path / "missing" / "state", b"")
    with closing(AggregateStore()) as full:
        full._others.execute("PRAGMA max_page_count=1")
        full["aggregate"] = bytes(100_000)
        with pytest.raises(Unusable, match="no room for what is remembered"):
            full.save(tmp_path / "state", b"")
