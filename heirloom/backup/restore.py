"""Restores the log and the keys from a backup, verified before anybody can use them.

Everything is made in a draft within the data directory, on brokers that nobody else reaches, and moved to its place
when it is complete. The keyring comes last: `heirloom up` refuses a directory with a log alone, or with a draft.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from events.aggregates.aggregate_names import CHECKPOINTS, AggregateName
from events.bus.connection import Connection
from events.files import create_private
from events.log.books import is_put_away, number_of
from events.log.consumer_reader import read
from events.log.log import Log
from events.log.stream import Required, configuration, put_away
from heirloom.backup.manifest import (
    AFTER_THE_LOG,
    BEFORE_THE_LOG,
    Manifest,
    StreamPart,
    UnusableBackup,
    pieces,
    read_part,
)
from heirloom.backup.stream_snapshot import (
    CHUNK_BYTES,
    consumers_of,
    remove_consumer,
    restore_snapshot,
    state_of,
    take_snapshot,
)
from heirloom.backup.unpacked_size import unpacked_size
from heirloom.broker import credentials, nats_server
from heirloom.broker.cluster import BrokerOptions, brokers
from heirloom.broker.credentials import Credentials
from heirloom.broker.own_connection import connect_as
from heirloom.data_directory import CREDENTIALS, KEYRING, NOTARY_KEY, NOTARY_STATE, DataDirectory
from heirloom.process.child_process import ChildFailed
from service.clients.assertion import bucket
from service.decide.decision import Decision
from service.decide.revocation import Revoke, revoke
from service.families.cache import LoadedFamily
from service.families.families import Families
from service.registry.blocked_subjects import BlockedSubjects
from service.replicas.broker_clock import MAX_TOLERATED_SECONDS
from service.revocations.stream import STREAM as REVOCATIONS

REVOCATIONS_AT_ONCE = 64
FAMILIES = "tokens.*.family.*.live"
"""The subjects of commits that revoke nothing: every family begins with one."""

Advance = Callable[[int], None]


def is_empty(data: Path) -> bool:
    """Whether the directory is empty, or does not exist."""
    return not data.exists() or (data.is_dir() and not any(data.iterdir()))


@contextmanager
def draft_of(data: Path) -> Iterator[Path]:
    """A directory to fill. Its content is moved into `data` after the block, or removed where the block failed.

    Raises `UnusableBackup` where another restore has a draft.
    """
    is_new = not data.exists()
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = DataDirectory(data).restore_draft
    try:
        draft.mkdir(mode=0o700)
    except FileExistsError:
        raise UnusableBackup(
            f"another restore into {data} is under way, or was broken off: unless it runs, remove {draft}, and restore"
            " again"
        ) from None
    try:
        yield draft
        os.sync()
        for entry in sorted(draft.iterdir(), key=lambda entry: entry.name == KEYRING):
            entry.rename(data / entry.name)
        draft.rmdir()
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        if is_new:
            shutil.rmtree(data, ignore_errors=True)
        raise


def check_room(data: Path, backup: Path, manifest: Manifest) -> None:
    """Check that the unpacked backup fits on the disk. Raises `UnusableBackup`."""
    unpacked = sum(unpacked_size(pieces(backup, stream.part)) for stream in manifest.streams)
    there = next(parent for parent in (data, *data.absolute().parents) if parent.exists())
    if unpacked > (free := shutil.disk_usage(there).free):
        raise UnusableBackup(
            f"the backup unpacks to {unpacked:,} bytes, and {there} has room for {free:,}: nothing was begun"
        )


@asynccontextmanager
async def own_brokers(data: Path, backup: Path, manifest: Manifest, count: int) -> AsyncIterator[Connection]:
    """Run one broker, or a cluster, on a new data directory, for us alone; its log stays after the block.

    Raises `UnusableBackup`.
    """
    directory = DataDirectory(data)
    if part := manifest.file(CREDENTIALS):
        create_private(directory.credentials, read_part(backup, part))
    known = credentials.ensure(data)
    ports = nats_server.free_ports(count)
    # the broker flushes the rest at the end, all at once
    started = brokers(directory, ports, known, BrokerOptions(sync="2m"))
    try:
        await asyncio.gather(*(broker.start() for broker in started))
        where = ",".join(f"nats://{nats_server.HOST}:{port}" for port in ports)
        connection = await connect_as("backup", "heirloom restore", where, known)
        try:
            yield connection
        finally:
            await connection.close()
    except ChildFailed as error:
        raise UnusableBackup(str(error)) from error
    finally:
        await asyncio.gather(*(broker.stop(nats_server.STOP_SECONDS) for broker in started))


def credentials_in(backup: Path, manifest: Manifest) -> Credentials | None:
    """The credentials in the backup, if there are any. Raises `UnusableBackup` and `KeyringError`."""
    part = manifest.file(CREDENTIALS)
    return None if part is None else credentials.decode(read_part(backup, part), backup / part.name)


async def restore_streams(
    connection: Connection, backup: Path, manifest: Manifest, copies: int, advance: Advance
) -> None:
    """Restore every stream of the backup with the present configuration, and so many `copies`.

    Consumers of the snapshot are removed: the service creates its own, which read the log from the beginning. Raises
    `UnusableBackup` and `SnapshotFailed`.
    """
    for stream in manifest.streams:
        config = _configuration(manifest, stream, copies)
        await restore_snapshot(connection, config, stream.state, pieces(backup, stream.part), advance)
        for consumer in await consumers_of(connection, stream.name):
            await remove_consumer(connection, stream.name, consumer)


async def refuse_to_overwrite(connection: Connection, manifest: Manifest) -> None:
    """Check that none of the streams exists there yet, nor a revocation feed, which would be another log's.

    Raises `UnusableBackup` and `SnapshotFailed`.
    """
    names = [*(stream.name for stream in manifest.streams), REVOCATIONS]
    if there := [name for name in names if await state_of(connection, name) is not None]:
        raise UnusableBackup(f"the broker already has the stream {' and '.join(there)}: a log is never overwritten")


async def copy_streams(
    source: Connection, target: Connection, manifest: Manifest, copies: int | None, draft: Path
) -> None:
    """Copy the restored streams to another broker, in so many `copies`; None: in as many as there were.

    Raises `UnusableBackup` and `SnapshotFailed`.
    """
    await refuse_to_overwrite(target, manifest)
    for stream in manifest.streams:
        path = draft / f"{stream.name}.snapshot"
        with path.open("w+b") as file:
            _, state = await take_snapshot(source, stream.name, file, lambda _: None)
            file.seek(0)
            config = _configuration(manifest, stream, copies or stream.copies)
            await restore_snapshot(target, config, state, iter(lambda: file.read(CHUNK_BYTES), b""), lambda _: None)
        path.unlink()


def restore_keys(backup: Path, manifest: Manifest, data: Path, *, same_log: bool) -> None:
    """Write the keys of the backup to `data`.

    Unless it is the `same_log`, the notary begins with a new key, since it may have signed commits that are lost; the
    old public key stays, since its checkpoints are in the log. Raises `UnusableBackup`.
    """
    lost = () if same_log else (NOTARY_KEY, NOTARY_STATE)
    for name in (*BEFORE_THE_LOG, *AFTER_THE_LOG):
        if name not in lost and (part := manifest.file(name)) is not None:
            create_private(data / name, read_part(backup, part))


def _configuration(manifest: Manifest, stream: StreamPart, copies: int) -> dict[str, Any]:
    """The code's own configuration; of the backup's only whether its newest book was being closed."""
    if (number := number_of(stream.name)) is not None:
        books = manifest.books
        first = books[number - 2].state.last_seq + 1 if number > 1 else 1
        config = configuration(Required(copies), stream.name, first)
        is_newest = number == len(books)
        if is_newest and not is_put_away(stream.config):
            return config
        return put_away(config, sealed=not is_newest or stream.config.get("sealed") is True)
    if stream.name == CHECKPOINTS:
        return configuration(Required(copies), stream.name)
    return bucket(copies, MAX_TOLERATED_SECONDS)  # a replica that starts on it forgets expired entries


async def end_every_family(connection: Connection, cause: str, advance: Advance) -> int:
    """Revoke every living family in the log; returns their number. `advance` receives how many were examined.

    Raises `Unavailable`.
    """
    the_log = Log(connection)
    await the_log.start()
    families = Families(the_log, BlockedSubjects(the_log))
    looked_at = ended = 0

    def decide(loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
        return revoke(loaded.state, Revoke("operator", cause))

    async def end(subject: str) -> int:
        name = AggregateName.parse(subject)
        return (await families.decide(name.tenant, name.id, "operator", decide)).seq

    until = await the_log.last_sequence()
    async with aclosing(read(connection, filters=(FAMILIES,), last_per_subject=True, until=until)) as batches:
        async for batch in batches:
            for start in range(0, len(batch.messages), REVOCATIONS_AT_ONCE):
                some = batch.messages[start : start + REVOCATIONS_AT_ONCE]
                written = await asyncio.gather(*(end(stored.subject) for stored in some))
                ended += sum(seq > 0 for seq in written)
                looked_at += len(some)
                advance(looked_at)
    return ended
