"""A stranger's backup: only known streams and files are restored, configured as the code has them."""

import asyncio
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import ConsumerConfig

from events.bus.connect import connect
from events.log import stream
from events.log.stream import Required, every_configuration
from heirloom.backup.manifest import MANIFEST, UnusableBackup, read_manifest
from heirloom.backup.restore import draft_of
from heirloom.backup.unpacked_size import unpacked_size
from heirloom.data_directory import KEYRING, DataDirectory
from heirloom.supervisor.preparation import CannotStart, prepare
from service.clients.assertion import UsedAssertions
from service.keys import keyring
from service.replicas.broker_clock import MAX_TOLERATED_SECONDS
from service.replicas.completed_cut_offs import CONSUMER
from tests.broker import broker
from tests.operations.test_backup import LOG, heirloom
from tests.projections.projector.test_projector import publish

Document = dict[str, Any]
SPY = "spy"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A backup of a log with a consumer that delivers commits to a client."""
    directory = tmp_path_factory.mktemp("hostile")
    with broker(directory / "broker") as server:
        asyncio.run(publish(server, LOG))
        asyncio.run(_spy_on(server.url))
        keyring.create(directory / KEYRING)
        done = heirloom("backup", "--data", directory, "--nats", server.url, directory / "backup")
    assert done.exit_code == 0, done.output
    yield directory / "backup"


async def _spy_on(url: str) -> None:
    connection = await connect(url, "test")
    await UsedAssertions(connection).start(1, 300)
    for name in (SPY, CONSUMER):  # a stranger may have altered the service's own, too
        config = ConsumerConfig(durable_name=name, deliver_subject="revoked.acme.f1")
        await connection.jetstream().add_consumer("TOKENS", config)
    await connection.close()


@pytest.fixture
def backup(good: Path, tmp_path: Path) -> Path:
    """A copy of the backup, to be damaged."""
    return Path(shutil.copytree(good, tmp_path / "backup"))


def alter(backup: Path, change: Callable[[Document], None]) -> None:
    """Rewrite the manifest."""
    document = json.loads((backup / MANIFEST).read_text())
    change(document)
    (backup / MANIFEST).write_text(json.dumps(document))


def add_stream(document: Document, name: str = "WIRETAP") -> None:
    """A stream that stores every client's requests and republishes them on the feed."""
    tap = {"name": name, "subjects": ["oauth.*.client.*.token"], "republish": {"src": ">", "dest": "revoked.a.b"}}
    document["streams"].append(document["streams"][0] | {"config": tap})


def rename_part(document: Document, kind: str, name: str) -> None:
    """Rename the first part of that kind."""
    parts = [entry["part"] for entry in document["streams"]] if kind == "streams" else document["files"]
    parts[0]["name"] = name


HOSTILE: dict[str, Callable[[Document], None]] = {
    "a stream of its own": add_stream,
    "a stream's name that is a path": lambda document: add_stream(document, "../../TOKENS"),
    "a stream twice": lambda document: document["streams"].append(document["streams"][-1]),
    "no log": lambda document: document["streams"].pop(),
    "a path for a stream": lambda document: rename_part(document, "streams", "../backup/TOKENS.snapshot"),
    "a path for a file": lambda document: rename_part(document, "files", "/etc/passwd"),
    "an unknown file": lambda document: rename_part(document, "files", "nats.conf"),
    "a file twice": lambda document: document["files"].append(document["files"][0]),
    "a negative size": lambda document: document["files"][0].update(size=-1),
    "a huge keyring": lambda document: document["files"][0].update(size=1 << 40),
    "copies without end": lambda document: document["streams"][0]["config"].update(num_replicas=1 << 30),
    "copies that are no number": lambda document: document["streams"][0]["config"].update(num_replicas="many"),
    "a state below nothing": lambda document: document["streams"][0]["state"].update(messages=-1),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_manifest_may_name_only_known_parts(kind: str, backup: Path, tmp_path: Path) -> None:
    """Otherwise it is refused before anything is restored."""
    alter(backup, HOSTILE[kind])
    with pytest.raises(UnusableBackup, match="is not as `heirloom backup` writes it"):
        read_manifest(backup)
    assert heirloom("restore", "--data", tmp_path / "new", backup).exit_code == 1
    assert not (tmp_path / "new").exists()


def test_a_huge_manifest_is_refused(backup: Path) -> None:
    """So is a deeply nested one."""
    (backup / MANIFEST).write_bytes(b"[" * (2 << 20))
    with pytest.raises(UnusableBackup, match="more than"):
        read_manifest(backup)
    (backup / MANIFEST).write_bytes(b"[" * (1 << 19))
    with pytest.raises(UnusableBackup, match="damaged"):
        read_manifest(backup)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", [MANIFEST, KEYRING, "TOKENS.snapshot"])
@pytest.mark.parametrize("put", [_link, _device, _fifo, _directory])
def test_only_plain_files_are_opened(put: Callable[[Path], None], name: str, backup: Path, tmp_path: Path) -> None:
    """No link is followed, no FIFO waited for."""
    put(backup / name)
    refused = heirloom("restore", "--data", tmp_path / "new", backup)
    assert (refused.exit_code, name in refused.output) == (1, True), refused.output
    assert not (tmp_path / "new").exists()


def test_a_snapshot_that_unpacks_to_more_than_the_disk_holds(backup: Path, tmp_path: Path) -> None:
    """Its size is computed from its frames, before a broker fills the disk."""
    bomb = b"\xff\x06\x00\x00S2sTwO" + _frame(0, b"\0\0\0\0" + b"\xff\xff\xff\xff\x0f") * 100_000
    (backup / "TOKENS.snapshot").write_bytes(bomb)

    def resize(document: Document) -> None:
        import hashlib

        part = next(entry["part"] for entry in document["streams"] if entry["config"]["name"] == "TOKENS")
        part.update(size=len(bomb), sha256=hashlib.sha256(bomb).hexdigest())

    alter(backup, resize)
    refused = heirloom("restore", "--data", tmp_path / "new", backup)
    assert (refused.exit_code, "unpacks to" in refused.output) == (1, True), refused.output
    assert not (tmp_path / "new").exists()


def _frame(kind: int, content: bytes) -> bytes:
    return struct.pack("<BI", kind, len(content))[:4] + content


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_sizes_are_read_from_frames_in_any_chunks(step: int) -> None:
    """Compressed frames state their size, plain ones have it, others count nothing."""
    whole = (
        b"\xff\x06\x00\x00S2sTwO" + _frame(0, b"cccc\x80\x02xyz") + _frame(1, b"cccc" + b"a" * 50) + _frame(0x99, b"i")
    )
    assert unpacked_size(whole[at : at + step] for at in range(0, len(whole), step)) == 256 + 50


def test_streams_are_restored_with_the_codes_configuration(backup: Path, tmp_path: Path) -> None:
    """Whatever the manifest and snapshots hold: no republish, no source, no consumer that delivers elsewhere.

    Files that the manifest does not name are left out: such credentials would be a stranger's.
    """
    for name in ("bus.json", "nats.conf", "notary.pub"):
        (backup / name).write_text("a stranger's")
    alter(backup, _to_the_feed)
    with broker(tmp_path / "another") as empty:
        done = heirloom("restore", "--data", tmp_path / "new", "--nats", empty.url, backup)
        assert done.exit_code == 0, done.output
        found, consumers = asyncio.run(_configurations(empty.url))
    assert sorted(found) == ["CHECKPOINTS", "KV_heirloom-assertions", "TOKENS"]
    for name in ("CHECKPOINTS", "TOKENS"):
        assert stream.deviations(found[name], stream.configuration(Required(), name)) == []
    used = found["KV_heirloom-assertions"]
    assert "republish" not in used and used["max_age"] >= 2 * MAX_TOLERATED_SECONDS * 10**9, "valid ones are forgotten"
    assert consumers == []
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [KEYRING]


def _to_the_feed(document: Document) -> None:
    for entry in document["streams"]:
        entry["config"] |= {"republish": {"src": ">", "dest": "revoked.x.y"}, "max_age": 10**9, "deny_delete": False}


async def _configurations(url: str) -> tuple[dict[str, Document], list[str]]:
    connection = await connect(url, "test")
    found = {config["name"]: config for config in await every_configuration(connection)}
    consumers = [consumer.name for consumer in await connection.jetstream().consumers_info("TOKENS")]
    await connection.close()
    return found, consumers


def test_a_second_restore_leaves_the_first_alone(tmp_path: Path) -> None:
    """Both found the directory empty; the second is refused with what to do, and the first completes."""
    data = tmp_path / "data"
    with draft_of(data) as draft:
        (draft / "log").write_text("a restore under way")
        with (
            pytest.raises(UnusableBackup, match="is under way, or was broken off: unless it runs, remove"),
            draft_of(data),
        ):
            raise AssertionError("started beside the first")
        assert (draft / "log").exists()
    assert [entry.name for entry in data.iterdir()] == ["log"]


def test_a_killed_restore_is_not_started(tmp_path: Path) -> None:
    """It leaves a draft, and `up` does not start with an empty log beside that."""
    DataDirectory(tmp_path).restore_draft.mkdir()
    with pytest.raises(CannotStart, match="was broken off"):
        prepare(DataDirectory(tmp_path))
    assert not (tmp_path / KEYRING).exists()
