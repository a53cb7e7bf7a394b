"""Backup and restore: damaged, incomplete or conflicting data is refused; lost data comes back."""

import asyncio
import json
import shutil
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from nats.js.api import StreamConfig

from events.aggregates.aggregate_names import EVERYTHING
from events.aggregates.family_commit import codec
from events.bus.connect import connect
from events.log.consumer_reader import read
from events.log.stored_message import StoredMessage
from heirloom.backup.manifest import MANIFEST
from heirloom.backup.stream_snapshot import restore_snapshot, state_of, take_snapshot
from heirloom.cli.main import main
from heirloom.data_directory import KEYRING
from notary.notary import Notary
from service.keys import keyring
from service.revocations import stream as revocations
from tests.broker import Broker, broker
from tests.notary.commands.test_proofs import families, write
from tests.projections.logs import LogMaker, eventful_log
from tests.projections.projector.test_projector import publish
from tests.system.service import Caller, running

LOG = eventful_log()


def heirloom(*arguments: str | Path | int) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def backed_up(server: Broker, directory: Path, log: Sequence[StoredMessage] = LOG, *, whole: bool = True) -> Path:
    """A backup of a broker with that log; if not `whole`, one that `restore` would refuse."""
    asyncio.run(publish(server, list(log)))
    keyring.create(directory / KEYRING)
    result = heirloom("backup", "--data", directory, "--nats", server.url, directory / "backup")
    assert result.exit_code == (0 if whole else 1), result.output
    assert whole or "would not be restored as it is" in result.output
    return directory / "backup"


async def commits(url: str) -> list[StoredMessage]:
    """All commits of the log."""
    connection = await connect(url, "test")
    last = await state_of(connection, "TOKENS")
    found: list[StoredMessage] = []
    async for batch in read(connection, until=last.last_seq if last else 0, filters=(EVERYTHING,)):
        found += batch.messages
    await connection.close()
    return found


def test_damage_is_named(nats_server: Broker, tmp_path: Path) -> None:
    """A flipped bit, a truncated file, a missing file: each is named, and nothing is restored."""
    backup = backed_up(nats_server, tmp_path)
    assert {oct(path.stat().st_mode & 0o777) for path in backup.iterdir()} == {"0o600"}
    assert "exists already" in heirloom("backup", "--data", tmp_path, "--nats", nats_server.url, backup).output
    into = tmp_path / "restored"
    for path in sorted(backup.iterdir()):
        whole = path.read_bytes()
        middle = len(whole) // 2
        for damaged in (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], whole[:middle], None):
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            if path.name == MANIFEST and damaged is not None and len(damaged) == len(whole):
                continue  # its statements about the other files are compared with them
            result = heirloom("restore", "--data", into, backup)
            assert result.exit_code == 1
            assert path.name in result.output
            assert not into.exists()
        path.write_bytes(whole)
    assert heirloom("restore", "--data", into, backup).exit_code == 0


async def with_a_feed(url: str) -> None:
    """Make a revocation feed there."""
    connection = await connect(url, "test")
    await revocations.ensure(connection, 1, 60)
    await connection.close()


def test_nothing_is_overwritten(nats_server: Broker, tmp_path: Path) -> None:
    """Neither a data directory nor a broker's log; an empty broker gets exactly the same commits."""
    backup = backed_up(nats_server, tmp_path)
    assert "is not empty" in heirloom("restore", "--data", tmp_path, backup).output
    refused = heirloom("restore", "--data", tmp_path / "new", "--nats", nats_server.url, backup)
    assert "never overwritten" in refused.output
    with broker(tmp_path / "another") as empty:
        asyncio.run(with_a_feed(empty.url))
        refused = heirloom("restore", "--data", tmp_path / "new", "--nats", empty.url, backup)
        assert "already has the stream REVOCATIONS" in refused.output
    with broker(tmp_path / "third") as empty:
        restored = heirloom("restore", "--data", tmp_path / "new", "--nats", empty.url, backup)
        assert restored.exit_code == 0, restored.output
        assert asyncio.run(commits(empty.url)) == LOG
    assert (tmp_path / "new" / KEYRING).read_bytes() == (tmp_path / KEYRING).read_bytes()


def test_a_log_with_a_fault_is_not_restored(nats_server: Broker, tmp_path: Path) -> None:
    """The backup is undamaged, but the log had been tampered with before."""
    backup = backed_up(nats_server, tmp_path, [*LOG, replace(LOG[20], seq=len(LOG) + 1)], whole=False)
    result = heirloom("restore", "--data", tmp_path / "new", backup)
    assert result.exit_code == 1
    assert f"sequence {len(LOG) + 1}" in result.output
    assert not (tmp_path / "new").exists()


def test_families_can_be_ended_by_a_restore(nats_server: Broker, tmp_path: Path) -> None:
    """With --end-families every live family of the backup is revoked, and the rest stays as it was."""
    made = LogMaker()
    for number in range(70):
        made.open(f"f{number}")
    made.rotate("f1")
    made.reuse("f1")
    backup = backed_up(nats_server, tmp_path, made.log)
    with broker(tmp_path / "another") as empty:
        result = heirloom("restore", "--data", tmp_path / "new", "--nats", empty.url, "--end-families", backup)
        assert "69 families ended" in result.output
        *before, last = asyncio.run(commits(empty.url))
    assert [stored.body for stored in before[: len(made.log)]] == [stored.body for stored in made.log]
    assert len(before) + 1 == len(made.log) + 69
    revoked = codec.decode(last.body).state.revoked
    assert revoked is not None
    assert revoked.reason == "operator"


def test_foreign_messages_are_accepted_by_sequence(nats_server: Broker, tmp_path: Path) -> None:
    """`backup` warns about them; the refusal of `restore` names the options that accept them."""
    junk = StoredMessage(len(LOG) + 1, "tokens.public.jwks", b"{}")
    more = StoredMessage(len(LOG) + 2, "tokens.acme.family.f2.live", b"junk")
    backup = backed_up(nats_server, tmp_path, [*LOG, junk, more], whole=False)
    refused = heirloom("restore", "--data", tmp_path / "new", backup)
    assert refused.exit_code == 1 and not (tmp_path / "new").exists()
    assert f"restore with --accept-foreign {junk.seq} --accept-foreign {more.seq}" in " ".join(refused.output.split())
    one = heirloom("restore", "--data", tmp_path / "new", "--accept-foreign", junk.seq, backup)
    assert one.exit_code == 1 and f"--accept-foreign {more.seq}" in one.output and "tokens.public" not in one.output
    both = "--accept-foreign", junk.seq, "--accept-foreign", more.seq
    restored = heirloom("restore", "--data", tmp_path / "new", *both, "--accept-foreign", 3, backup)
    assert restored.exit_code == 0, restored.output
    said = " ".join(restored.output.split())
    assert f"accepted, although foreign: {junk.seq}, {more.seq};" in said
    assert "not foreign, so there was nothing to accept: 3" in said


@pytest.mark.parametrize("name", ["foo", "0", "-1", "", "TOKENS:x", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 20])
def test_a_malformed_sequence_is_a_usage_error(tmp_path: Path, name: str) -> None:
    """Reported before anything is read."""
    refused = heirloom("restore", "--data", tmp_path / "new", f"--accept-foreign={name}", tmp_path / "none")
    assert refused.exit_code == 2 and "is neither a sequence nor" in refused.output


async def test_messages_that_expired_since_are_no_damage(nats_server: Broker, tmp_path: Path) -> None:
    """A stream with a maximum age may come back without its messages."""
    connection = await connect(nats_server.url, "test")
    jetstream = connection.jetstream()
    await jetstream.add_stream(StreamConfig(name="SHORT", subjects=["short"], max_age=0.2))
    await jetstream.publish("short", b"x")
    copy = BytesIO()
    config, state = await take_snapshot(connection, "SHORT", copy, lambda _: None)
    assert state.messages == 1
    await jetstream.delete_stream("SHORT")
    await asyncio.sleep(0.2)  # until its messages have expired
    await restore_snapshot(connection, config, state, [copy.getvalue()], lambda _: None)
    assert await state_of(connection, "SHORT") is not None
    await connection.close()


async def test_restore_after_everything_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backed up under load, deleted, restored: tokens refresh, revoked families stay revoked, checkpoints agree."""
    monkeypatch.setenv("HEIRLOOM_NOTARY_SECONDS", "0.1")
    data, backup, kept = tmp_path / "data", tmp_path / "backup", tmp_path / "kept"
    with running(data, "--notary") as service:
        async with service.client() as web:
            alive, stolen = await web.issue(), await web.issue("mallory")
            await web.refresh(stolen["refresh_token"])
            assert (await web.refresh(stolen["refresh_token"]))["error"] == "invalid_grant"
            enough = asyncio.Event()  # nats-py may swallow a cancellation
            traffic = asyncio.create_task(_issue_until(enough, web))
            await asyncio.to_thread(_keep_checkpoint, data, kept)
            made = await asyncio.to_thread(heirloom, "backup", "--data", data, backup)
            enough.set()
            await traffic
            assert made.exit_code == 0, made.output
        assert service.stop() == 0
        key = (data / "notary.pub").read_text().strip()
        shutil.rmtree(data)
        unproven = await asyncio.to_thread(heirloom, "restore", "--data", data, "--checkpoint", kept, backup)
        assert unproven.exit_code == 1 and "no notary's key is known" in unproven.output and not data.exists()
        unsigned = await asyncio.to_thread(
            heirloom, "restore", "--data", tmp_path / "unsigned", "--checkpoint", kept, "--unsigned", backup
        )
        assert unsigned.exit_code == 0 and "NOT PROVEN" in unsigned.output, unsigned.output
        held = "--checkpoint", kept, "--key", key
        restored = await asyncio.to_thread(heirloom, "restore", "--data", data, *held, backup)
        assert restored.exit_code == 0, restored.output
        service.start()
        async with service.client() as web, service.role("auditor") as auditor:
            assert "refresh_token" in await web.refresh(alive["refresh_token"])
            assert (await web.refresh(stolen["refresh_token"]))["error"] == "invalid_grant"
            assert not await web.active(stolen["access_token"])
            revocations = await auditor.ask("audit.acme.revocations", {})
            assert [item["reason"] for item in revocations["items"]] == ["reuse_detected"]
        await asyncio.to_thread(_keep_checkpoint, data, tmp_path / "newer")
        for checkpoint in (kept, tmp_path / "newer"):
            verified = await asyncio.to_thread(heirloom, "audit", "verify", "--data", data, "--checkpoint", checkpoint)
            assert verified.exit_code == 0, verified.output
    old = await asyncio.to_thread(
        heirloom, "restore", "--data", tmp_path / "old", "--checkpoint", tmp_path / "newer", "--key", key, backup
    )
    assert (
        old.exit_code == 1 and "no notary's key" not in old.output
    )  # the newer checkpoint proves that the log went on after the backup
    assert not (tmp_path / "old").exists()


async def _issue_until(enough: asyncio.Event, web: Caller) -> None:
    while not enough.is_set():
        await web.issue("bob")


def _keep_checkpoint(data: Path, into: Path) -> None:
    """Save a checkpoint that covers the log's present end; waits for it."""
    position = heirloom("audit", "position", "--data", data, "--tenant", "acme", "--json")
    covered = json.loads(position.stdout)["log_seq"]
    deadline = time.monotonic() + 30
    while True:
        result = heirloom("audit", "checkpoint", "--data", data)
        if result.exit_code == 0 and int(result.stdout.splitlines()[1]) >= covered:
            into.write_text(result.stdout)
            return
        assert time.monotonic() < deadline, f"not covered: {covered} by {result.output}"


def test_a_backup_without_keys_can_be_verified(nats_server: Broker, tmp_path: Path) -> None:
    """It holds the notary's public key: with the keyring put back, a new notary's log verifies."""
    data, new = tmp_path / "data", tmp_path / "new"
    data.mkdir()
    keyring.create(data / KEYRING)
    asyncio.run(write(nats_server.url, data, families("f1", "f2")))
    made = heirloom("backup", "--data", data, "--nats", nats_server.url, "--no-keys", tmp_path / "backup")
    assert made.exit_code == 0, made.output
    assert {path.name for path in (tmp_path / "backup").iterdir()} & {KEYRING, "notary.key", "notary.state"} == set()
    with broker(tmp_path / "another") as empty:
        restored = heirloom("restore", "--data", new, "--nats", empty.url, tmp_path / "backup")
        assert restored.exit_code == 0, restored.output
        shutil.copy(data / KEYRING, new / KEYRING)
        asyncio.run(_vouch(empty.url, new))
        keys = [word for key in (new / "notary.pub").read_text().split() for word in ("--key", key)]
        verified = heirloom("audit", "verify", "--nats", empty.url, *keys)
        assert (verified.exit_code, len(keys)) == (0, 4), verified.output
        assert "2 checkpoints agree" in verified.output


async def _vouch(url: str, data: Path) -> None:
    """Append one more commit, and sign it with a new notary that knows only the old public key."""
    connection = await connect(url, "test")
    more = families("f1", "f2", "f3").log[-1]
    await connection.jetstream().publish(more.subject, more.body)
    notary = Notary(connection, data / "notary.key", data / "notary.state")
    await notary.start()
    await notary.step()
    await connection.close()


@pytest.mark.parametrize("name", [KEYRING, "bus.json", "notary.key", "notary.pub", "notary.state"])
def test_unusable_key_files_are_not_backed_up(name: str, nats_server: Broker, tmp_path: Path) -> None:
    """`backup` reports it, not only the later `restore`."""
    asyncio.run(write(nats_server.url, tmp_path, families("f1")))
    keyring.create(tmp_path / KEYRING)
    (tmp_path / name).write_bytes(b"\xff{")
    (tmp_path / name).chmod(0o600)
    made = heirloom("backup", "--data", tmp_path, "--nats", nats_server.url, tmp_path / "backup")
    assert (made.exit_code, name in made.output) == (1, True), made.output
    assert isinstance(made.exception, SystemExit)
    assert not (tmp_path / "backup").exists()
