"""`heirloom backup` and `heirloom restore`."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from events.bus import Connection
from events.log import Unavailable
from events.stream import last_sequence
from events.subjects import STREAM
from heirloom import credentials
from heirloom.backup import Manifest, Unusable, back_up, check, read_manifest
from heirloom.commands.held_against import read_kept
from heirloom.commands.options import FILE, where
from heirloom.commands.reading import progress
from heirloom.commands.verify import verify_log
from heirloom.reach import open_bus
from heirloom.restore import end_every_family, is_empty, own_brokers, restore_keys, restore_streams
from heirloom.snapshot import SnapshotFailed, state_of
from notary.key import PUBLIC, known_keys
from notary.note import MalformedNote
from notary.verify import Terms
from service.keyring import KeyringError

T = TypeVar("T")

DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.command()
@where
@click.option("--no-keys", is_flag=True, help="The log alone: the keyring is kept elsewhere.")
@click.argument("into", type=DIRECTORY)
def backup(data: Path, nats: str | None, no_keys: bool, into: Path) -> None:
    """Back up the running service into a new directory.

    It holds the log and every key: whoever has it can mint tokens. Keep it as you keep the keyring.
    """

    async def run() -> Manifest:
        async with open_bus(data, _with_credentials(data, nats), "service") as connection:
            log = await state_of(connection, STREAM)
            with _bytes("backing up", 0 if log is None else log.bytes) as advance:
                return await back_up(connection, data, into, advance, keys=not no_keys)

    manifest = _told(run)
    size = sum(part.size for part in manifest.parts)
    keys = "and every key" if manifest.has_keys else "without the keys"
    click.echo(f"{into}: the log up to sequence {manifest.log.last_seq:,} {keys}, {size:,} bytes")


@click.command()
@where
@click.option("--checkpoint", "kept", type=FILE, help="A checkpoint you kept: the log must reach as far, and agree.")
@click.option(
    "--end-families",
    is_flag=True,
    help="The service went on after this backup: end every family in it, since what became of them is lost.",
)
@click.option(
    "--cluster",
    type=click.Choice([1, 3]),
    help="Copies of the log, each on a broker of its own; otherwise one, or with --nats as many as there were.",
)
@click.argument("backup", metavar="FROM", type=DIRECTORY)
def restore(
    data: Path, nats: str | None, kept: Path | None, end_families: bool, cluster: int | None, backup: Path
) -> None:
    """Restore a backup into an empty directory.

    FROM goes into the one that --data names; with --nats, its log goes onto a broker of your own. The log is verified
    before that is done. If anything was committed after the backup, say --end-families.
    """
    if kept is not None and end_families:
        raise click.UsageError("--checkpoint asks whether commits are missing; --end-families says that they are")
    if not is_empty(data):
        raise click.ClickException(f"{data} is not empty: a data directory is never overwritten. Name another --data")
    os.umask(0o077)  # as `heirloom up`: the log is nobody else's to read

    async def run() -> tuple[Manifest, int]:
        manifest = _checked(backup)
        async with _broker(data, nats, backup, cluster) as (connection, replicas):
            with _bytes("restoring", sum(stream.part.size for stream in manifest.streams)) as advance:
                await restore_streams(connection, backup, manifest, replicas, advance)
            await _verify(connection, backup, manifest, kept)
            ended = await _end_families(connection, manifest) if end_families else 0
        restore_keys(backup, manifest, data, same_log=not end_families)
        return manifest, ended

    manifest, ended = _told(run)
    log = manifest.log
    click.echo(f"restored and verified: {log.messages:,} commits, the last of them {log.last_seq:,}")
    if end_families:
        click.echo(f"{ended:,} families ended; the notary begins anew with a new key")
    else:
        click.echo(
            f"whatever was committed after {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC is not in it, revocations neither:"
            " if the service went on after that, restore with --end-families instead"
        )
    if not manifest.has_keys:
        click.echo(f"the backup holds no keys: put the keyring into {data} before you start the service")


@asynccontextmanager
async def _broker(
    data: Path, nats: str | None, backup: Path, cluster: int | None
) -> AsyncIterator[tuple[Connection, int | None]]:
    """Where the log goes, and how many copies it gets. What was begun in a data directory is taken away again."""
    if nats is not None:
        async with open_bus(data, _with_credentials(backup, nats), "service") as connection:
            yield connection, cluster
        return
    try:
        async with own_brokers(data, backup, cluster or 1) as connection:
            yield connection, cluster or 1
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)
        raise


def _checked(backup: Path) -> Manifest:
    manifest = read_manifest(backup)
    with _bytes("checking", sum(part.size for part in manifest.parts)) as advance:
        check(backup, manifest, advance)
    return manifest


async def _verify(connection: Connection, backup: Path, manifest: Manifest, kept: Path | None) -> None:
    """The same as `heirloom audit verify`. Raises `Unusable`."""
    public = backup / PUBLIC
    known = known_keys(public) if any(part.name == PUBLIC for part in manifest.files) else []
    checkpoint = None if kept is None else read_kept(kept, known)
    terms = Terms(tuple(map(str, known)), None if checkpoint is None else checkpoint.signed)
    end = await last_sequence(connection)
    with progress("verifying", end) as advance:
        report = await verify_log(connection, end, advance, terms)
    if report.fault is not None:
        raise Unusable(f"the log of the backup is not whole: sequence {report.fault.seq}: {report.fault.why}")


async def _end_families(connection: Connection, manifest: Manifest) -> int:
    cause = f"restored from the backup of {manifest.made_at:%Y-%m-%dT%H:%M:%SZ}"
    with progress("ending families", manifest.log.messages) as advance:
        return await end_every_family(connection, cause, advance)


def _with_credentials(directory: Path, nats: str | None) -> str | None:
    """A URL without credentials is of a broker that knows those made here (`heirloom broker-config`)."""
    if nats is None or urlsplit(nats).username is not None or not (directory / credentials.FILE).exists():
        return nats
    parts = urlsplit(nats)
    return credentials.load(directory).url("service", parts.netloc)


def _told(work: Callable[[], Coroutine[None, None, T]]) -> T:
    try:
        return asyncio.run(work())
    except (Unusable, SnapshotFailed, Unavailable, KeyringError, MalformedNote) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _bytes(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal's standard error; gives what to tell it each piece's bytes."""
    columns = SpinnerColumn(), TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more: bar.update(task, advance=more)
