"""Every store: compare-and-swap, what survives, and what bad content comes to."""

import asyncio
import errno
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats
import pytest

from heirloom_client import FileStore, KvStore, MemoryStore, Store, StoreError
from heirloom_client.record import Record
from tests.broker import Broker

RECORD = Record(secret="00", origin="o", refresh_token="hrt_secret-0")
OTHER = msgspec.structs.replace(RECORD, refresh_token="hrt_secret-1")
KEY = bytes(range(32))


@pytest.fixture(params=["memory", "file", "kv"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """One of each kind, empty."""
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "file":
        yield FileStore(tmp_path / "deep" / "token")
    else:
        server: Broker = request.getfixturevalue("nats_server")
        connection = await nats.connect(server.url)
        jetstream = connection.jetstream()
        await jetstream.create_key_value(bucket="tokens")
        yield KvStore(jetstream, "tokens", key=KEY)
        await connection.close()


async def test_a_store_swaps_what_it_was_read_with(store: Store) -> None:
    """A writer that has read an older revision changes nothing."""
    assert await store.read() is None
    assert await store.swap(RECORD, 0)
    assert not await store.swap(OTHER, 0)
    first = await store.read()
    assert first is not None
    assert first.record == RECORD
    assert await store.swap(OTHER, first.revision)
    assert not await store.swap(RECORD, first.revision)
    second = await store.read()
    assert second is not None
    assert (second.record, second.revision > first.revision) == (OTHER, True)


async def test_one_of_many_writers_wins(store: Store) -> None:
    """Each time."""
    revision = 0
    for number in range(5):
        written = [msgspec.structs.replace(RECORD, refresh_token=f"{number}-{writer}") for writer in range(8)]
        won = await asyncio.gather(*(store.swap(record, revision) for record in written))
        stored = await store.read()
        assert stored is not None
        assert [stored.record] == [record for record, has_won in zip(written, won, strict=True) if has_won]
        revision = stored.revision


async def test_turns_are_taken_one_at_a_time(store: Store) -> None:
    """And nobody is kept out for ever."""
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with store.turn():
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.005)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(10)))


async def test_no_repr_shows_a_token(store: Store) -> None:
    """Neither the store's nor the record's."""
    await store.swap(RECORD, 0)
    assert RECORD.refresh_token not in f"{store!r} {await store.read()!r}"


def _newest(path: Path) -> Path:
    return max((entry for entry in path.iterdir() if entry.name.isdecimal()), key=lambda entry: int(entry.name))


async def test_files_are_the_owner_s_alone(tmp_path: Path) -> None:
    """0700 and 0600, whatever the umask; nothing but the newest revision and the lock is left."""
    path = tmp_path / "token"
    os.umask(0)
    store = FileStore(path)
    async with store.turn():
        assert await store.swap(RECORD, 0)
        assert await store.swap(OTHER, 1)
    assert path.stat().st_mode & 0o777 == 0o700
    assert {entry.name: entry.stat().st_mode & 0o777 for entry in path.iterdir()} == {"2": 0o600, "lock": 0o600}


@pytest.mark.parametrize("content", [b"", b'{"v":1,"secret":"00","ori', b"\xff", b"[]", b"{}"])
async def test_a_file_that_is_cut_short(tmp_path: Path, content: bytes) -> None:
    """The error names it, and what to do."""
    store = FileStore(tmp_path / "token")
    await store.swap(RECORD, 0)
    _newest(tmp_path / "token").write_bytes(content)
    with pytest.raises(StoreError, match=r"token/1 is cut short or damaged: remove it"):
        await store.read()


async def test_a_file_of_a_newer_version(tmp_path: Path) -> None:
    """It is not touched."""
    store = FileStore(tmp_path / "token")
    await store.swap(RECORD, 0)
    _newest(tmp_path / "token").write_bytes(b'{"v":2,"new":true}')
    with pytest.raises(StoreError, match="newer version"):
        await store.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_file_of_another_user(tmp_path: Path) -> None:
    """Whoever can write there could put a token of his own in."""
    store = FileStore(tmp_path / "token")
    await store.swap(RECORD, 0)
    os.chown(_newest(tmp_path / "token"), 12345, -1)
    with pytest.raises(StoreError, match="belongs to another user"):
        await store.read()


@pytest.mark.parametrize("which", ["directory", "file"])
async def test_files_that_are_open_to_others(tmp_path: Path, which: str) -> None:
    """They may have read the tokens."""
    store = FileStore(tmp_path / "token")
    await store.swap(RECORD, 0)
    (tmp_path / "token" if which == "directory" else _newest(tmp_path / "token")).chmod(0o755)
    with pytest.raises(StoreError, match="open to other users"):
        await store.read()


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
async def test_a_full_or_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    """The revision before is as it was."""
    store = FileStore(tmp_path / "token")
    await store.swap(RECORD, 0)

    def full(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"Nothing is lost") as refusal:
        await store.swap(OTHER, 1)
    assert os.strerror(fault) in str(refusal.value)
    monkeypatch.undo()
    stored = await store.read()
    assert stored is not None
    assert stored.record == RECORD
    assert [entry.name for entry in (tmp_path / "token").iterdir()] == ["1"]


async def test_a_writer_that_slept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped just before its link, it writes no older revision over a newer one, though its number is free."""
    store, path = FileStore(tmp_path / "token"), tmp_path / "token"
    await store.swap(RECORD, 0)
    link = os.link

    def late(draft: Path, name: str) -> None:
        monkeypatch.undo()
        newer = FileStore(path)
        assert newer._swap(OTHER, 1)
        assert newer._swap(OTHER, 2)
        link(draft, name)

    monkeypatch.setattr(os, "link", late)
    assert not await store.swap(RECORD, 1)
    assert [entry.name for entry in path.iterdir()] == ["3"]


async def test_what_a_killed_process_left(tmp_path: Path) -> None:
    """Drafts are removed when they are old."""
    store = FileStore(tmp_path / "token")
    await store.swap(RECORD, 0)
    for name, age in (("draft-old", 100), ("draft-new", 0)):
        (tmp_path / "token" / name).touch()
        then = (tmp_path / "token" / name).stat().st_mtime - age
        os.utime(tmp_path / "token" / name, (then, then))
    await store.swap(OTHER, 1)
    assert {entry.name for entry in (tmp_path / "token").iterdir()} == {"2", "draft-new"}


async def test_a_bucket_holds_nothing_readable(nats_server: Broker) -> None:
    """Another key is refused; so is a bucket that is gone, and a value that was deleted."""
    connection = await nats.connect(nats_server.url)
    jetstream = connection.jetstream()
    bucket = await jetstream.create_key_value(bucket="tokens")
    store = KvStore(jetstream, "tokens", key=KEY)
    await store.swap(RECORD, 0)
    raw = (await bucket.get("token")).value or b""
    assert b"hrt_" not in raw
    with pytest.raises(StoreError, match="check the key"):
        await KvStore(jetstream, "tokens", key=secrets.token_bytes(32)).read()
    with pytest.raises(ValueError, match="32 bytes"):
        KvStore(jetstream, "tokens", key=b"short")
    await bucket.delete("token")
    with pytest.raises(StoreError, match="deleted"):
        await store.read()
    await jetstream.delete_key_value("tokens")
    with pytest.raises(StoreError, match="bucket exists"):
        await store.read()
    with pytest.raises(StoreError, match="bucket exists"):
        await store.swap(RECORD, 0)
    await connection.close()


async def test_a_store_that_was_removed(tmp_path: Path) -> None:
    """It is an empty one."""
    store = FileStore(tmp_path / "token")
    await store.swap(RECORD, 0)
    shutil.rmtree(tmp_path / "token")
    assert await store.read() is None
