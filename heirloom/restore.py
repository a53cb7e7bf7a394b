"""Making the log and the keys again from a backup, verified before anybody can build on them.

A data directory is usable once its keyring is there, and that comes last: `heirloom up` refuses one with a log alone.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path

from events import bus
from events.bus import Connection
from events.family import FamilyState
from events.log import Log
from events.reader import read
from events.stream import SUBJECTS
from heirloom import credentials, nats_server
from heirloom.backup import AFTER_THE_LOG, BEFORE_THE_LOG, KEYRING, Manifest, StreamPart, Unusable
from heirloom.brokers import brokers
from heirloom.child import ChildFailed
from heirloom.credentials import Credentials
from heirloom.snapshot import give_back, state_of
from notary import key as notary_files
from service.decide.outcome import Decision
from service.decide.revoke import Revoke, revoke
from service.families import Families
from service.keyring import write_private
from service.subjects import Subjects

STOP_SECONDS = 30
AT_ONCE = 64
FAMILIES = "tokens.*.family.*.live"
"""Every family begins with a commit that revokes nothing."""

Advance = Callable[[int], None]


def is_empty(data: Path) -> bool:
    """Whether nothing lies there, or there is no such directory."""
    return not data.exists() or (data.is_dir() and not any(data.iterdir()))


@asynccontextmanager
async def own_brokers(data: Path, backup: Path, count: int) -> AsyncIterator[Connection]:
    """One broker, or a cluster, on a new data directory, for us alone; the log it is given stays when it ends.

    Raises `Unusable`.
    """
    known = _credentials(data, backup)
    ports = nats_server.free_ports(count)
    # what a broker has not yet flushed to the disk is flushed at the end, all at once
    started = brokers(data, ports, known, "2m")
    try:
        await asyncio.gather(*(broker.start() for broker in started))
        where = ",".join(f"{nats_server.HOST}:{port}" for port in ports)
        connection = await bus.connect(known.url("service", where), "heirloom restore")
        try:
            yield connection
        finally:
            await connection.close()
    except ChildFailed as error:
        raise Unusable(str(error)) from error
    finally:
        await asyncio.gather(*(broker.stop(STOP_SECONDS) for broker in started))
    os.sync()


def _credentials(data: Path, backup: Path) -> Credentials:
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (backup / credentials.FILE).exists():
        write_private(data / credentials.FILE, (backup / credentials.FILE).read_bytes())
    return credentials.ensure(data)


async def restore_streams(
    connection: Connection, backup: Path, manifest: Manifest, replicas: int | None, advance: Advance
) -> None:
    """Make every stream of the backup again, with `replicas` copies if that is not None.

    None of them may exist. Raises `Unusable` and `SnapshotFailed`.
    """
    names = [stream.config["name"] for stream in manifest.streams]
    if there := [name for name in names if await state_of(connection, name) is not None]:
        raise Unusable(f"the broker already has the stream {' and '.join(there)}: a log is never overwritten")
    for stream in manifest.streams:
        with (backup / stream.part.name).open("rb") as source:
            await give_back(connection, _config(stream, replicas), stream.state, source, advance)


def restore_keys(backup: Path, manifest: Manifest, data: Path, *, same_log: bool) -> None:
    """Write the keys of the backup to `data`, the keyring last.

    Not the `same_log`: then the notary, which may have signed what is lost, begins anew with another key; the old
    public key stays, since its checkpoints are in the log.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = {part.name for part in manifest.files}
    if not same_log:
        held -= {notary_files.KEY, notary_files.STATE}
    for name in (*BEFORE_THE_LOG, *AFTER_THE_LOG):
        if name in held:
            write_private(data / name, (backup / name).read_bytes())
    assert not manifest.has_keys or (data / KEYRING).exists()


async def end_every_family(connection: Connection, cause: str, advance: Advance) -> int:
    """Revoke every family that is alive in the log; how many there were. `advance` hears how many were looked at.

    Raises `Unavailable`.
    """
    the_log = Log(connection)
    await the_log.start()
    families = Families(the_log, Subjects(the_log))
    looked_at = ended = 0

    def decide(state: FamilyState | None, _now: datetime, _id: str) -> Decision:
        return revoke(state, Revoke("operator", cause))

    async def end(subject: str) -> int:
        _, tenant, _, family_id, _ = subject.split(".")
        return (await families.decide(tenant, family_id, "operator", decide)).seq

    until = await the_log.last_sequence()
    async with aclosing(read(connection, filters=(FAMILIES,), last_per_subject=True, until=until)) as batches:
        async for batch in batches:
            for start in range(0, len(batch.commits), AT_ONCE):
                some = batch.commits[start : start + AT_ONCE]
                written = await asyncio.gather(*(end(stored.subject) for stored in some))
                ended += sum(seq > 0 for seq in written)
                looked_at += len(some)
                advance(looked_at)
    return ended


def _config(stream: StreamPart, replicas: int | None) -> dict[str, object]:
    config = stream.config if replicas is None else stream.config | {"num_replicas": replicas}
    return config | {"compression": "none"} if config["name"] in SUBJECTS else config
