"""Making the log and the keys again from a backup, verified before anybody can build on them.

A data directory is usable once its keyring is there, and that comes last: `heirloom up` refuses one with a log alone.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path

from nats.errors import Error as NatsError

from events import bus
from events.bus import Connection
from events.family import FamilyState
from events.log import Log
from events.reader import read
from heirloom import credentials, nats_server
from heirloom.backup import AFTER_THE_LOG, BEFORE_THE_LOG, KEYRING, Manifest, StreamPart, Unusable
from heirloom.snapshot import give_back, state_of
from notary import key as notary_files
from service.decide.outcome import Decision
from service.decide.revoke import Revoke, revoke
from service.families import Families
from service.keyring import write_private
from service.subjects import Subjects

START_SECONDS = 30
AT_ONCE = 64
FAMILIES = "tokens.*.family.*.live"
"""Every family begins with a commit that revokes nothing."""

Advance = Callable[[int], None]


def is_empty(data: Path) -> bool:
    """Whether nothing lies there, or there is no such directory."""
    return not data.exists() or (data.is_dir() and not any(data.iterdir()))


@asynccontextmanager
async def own_broker(data: Path, backup: Path) -> AsyncIterator[Connection]:
    """A broker on a new data directory, for us alone; the log it is given stays when it ends. Raises `Unusable`."""
    config, output = data / "restore.conf", data / "restore.log"
    url = _configure(data, backup, config)
    with output.open("wb") as errors:
        command = [nats_server.binary(), "--config", str(config)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)  # noqa: S603, ASYNC220  # ours, and it starts at once
    try:
        connection = await _connected(url, process, output)
        try:
            yield connection
        finally:
            await connection.close()
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
    config.unlink()
    output.unlink()
    os.sync()


def _configure(data: Path, backup: Path, config: Path) -> str:
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (backup / credentials.FILE).exists():
        write_private(data / credentials.FILE, (backup / credentials.FILE).read_bytes())
    known, listen = credentials.ensure(data), f"{nats_server.HOST}:{nats_server.free_port()}"
    # what the broker has not yet flushed to the disk is flushed at the end, all at once
    write_private(config, nats_server.configuration(listen, data / "jetstream", known, "2m").encode())
    return known.url("service", listen)


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
        return revoke(state, Revoke(None, "operator", cause))

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
    return stream.config if replicas is None else stream.config | {"num_replicas": replicas}


async def _connected(url: str, process: "subprocess.Popen[bytes]", output: Path) -> Connection:
    """Once JetStream answers. Raises `Unusable`."""
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while process.poll() is None and asyncio.get_running_loop().time() < deadline:
        try:
            connection = await bus.connect(url, "heirloom restore", patient=False)
        except (OSError, NatsError):
            await asyncio.sleep(0.02)
            continue
        try:
            await connection.jetstream().account_info()
        except NatsError:
            await connection.close()
            continue
        return connection
    raise Unusable(f"the broker does not start: {_last_line(output)}")


def _last_line(output: Path) -> str:
    return output.read_text(errors="replace").strip().rpartition("\n")[2]
