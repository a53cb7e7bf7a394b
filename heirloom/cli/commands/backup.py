"""`heirloom backup` and `heirloom restore`."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import click

from events.aggregates.aggregate_names import STREAM
from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from events.log.stream import last_sequence
from events.verification.verifier import Report
from heirloom.backup.backup import back_up
from heirloom.backup.manifest import Manifest, UnusableBackup, check, read_manifest, read_part
from heirloom.backup.restore import (
    check_room,
    copy_streams,
    credentials_in,
    draft_of,
    end_every_family,
    is_empty,
    own_brokers,
    refuse_to_overwrite,
    restore_keys,
    restore_streams,
)
from heirloom.backup.stream_snapshot import SnapshotFailed, state_of
from heirloom.broker import credentials
from heirloom.broker.credentials import Credentials
from heirloom.cli.audit.trust_options import KEY, UNSIGNED, named, read_kept
from heirloom.cli.audit.verify import verify_log
from heirloom.cli.commands.restorable import names, obstacle, report_accepted
from heirloom.cli.options import FILE, where
from heirloom.cli.progress_bar import byte_progress, progress
from heirloom.cli.service_connection import open_bus, reach_log
from heirloom.cli.tables import print_text
from heirloom.data_directory import NOTARY_PUBLIC_KEY, DataDirectory
from notary.key_files import parse_keys
from notary.log_verifier import Terms
from notary.signed_note import MalformedNote
from service.keys.keyring import KeyringError

T = TypeVar("T")

DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.command()
@where
@click.option("--no-keys", is_flag=True, help="The log alone: the keyring is kept elsewhere.")
@click.argument("into", type=DIRECTORY)
def backup(data: Path, nats: str | None, no_keys: bool, into: Path) -> None:
    """Back up the running service into a new directory.

    It holds the log and every key: whoever has it can mint tokens. Keep it as you keep the keyring.
    The log is verified: exits 1 if the backup would not be restored as it is, and says why.
    """

    async def run() -> tuple[Manifest, str | None]:
        known = _known(data, nats)
        async with open_bus(data, nats, "backup", known) as connection:
            log = await state_of(connection, STREAM)
            with byte_progress("backing up", 0 if log is None else log.bytes) as advance:
                manifest = await back_up(connection, data, into, advance, keys=not no_keys)
        async with open_bus(data, nats, "auditor", known) as connection:
            await reach_log(connection)
            terms = _terms(into, manifest, None, (), unsigned=False)
            return manifest, obstacle(await _report(connection, manifest.log.last_seq, terms))

    manifest, why = _run(run)
    size = sum(part.size for part in manifest.parts)
    keys = "and every key" if manifest.has_keys else "without the keys"
    print_text(f"{into}: the log up to sequence {manifest.log.last_seq:,} {keys}, {size:,} bytes")
    if why is not None:
        raise click.ClickException(f"the backup {into} is there, and would not be restored as it is: {why}")


@click.command()
@where
@click.option("--checkpoint", "kept", type=FILE, help="A checkpoint you kept: the log must reach as far, and agree.")
@KEY
@UNSIGNED
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
@click.option(
    "--accept-foreign",
    "accepted",
    multiple=True,
    metavar="SEQ",
    callback=names,
    help="Restore although the message at this sequence is no commit. A refusal names which to give, one by one.",
)
@click.argument("backup", metavar="FROM", type=DIRECTORY)
def restore(  # noqa: PLR0913  # a command's options are its parameters
    data: Path,
    nats: str | None,
    kept: Path | None,
    keys: tuple[str, ...],
    unsigned: bool,
    end_families: bool,
    cluster: int | None,
    accepted: tuple[str, ...],
    backup: Path,
) -> None:
    """Restore a backup into an empty directory.

    FROM goes into the one that --data names; with --nats, its log goes onto a broker of your own. The log is verified
    before that is done. If anything was committed after the backup, say --end-families.
    """
    if kept is not None and end_families:
        raise click.UsageError("--checkpoint asks whether commits are missing; --end-families says that they are")
    if not is_empty(data):
        raise click.ClickException(f"{data} is not empty: a data directory is never overwritten. Name another --data")
    os.umask(0o077)  # as `heirloom up`: only its owner may read the log

    options = _RestoreOptions(
        backup=backup,
        data=data,
        nats=nats,
        kept=kept,
        keys=keys,
        unsigned=unsigned,
        end_families=end_families,
        cluster=cluster,
        accepted=accepted,
    )
    _report_restored(options, _run(lambda: _restore(options)))


class _RestoreOptions(NamedTuple):
    """The parameters of `restore`."""

    backup: Path
    data: Path
    nats: str | None
    kept: Path | None
    keys: tuple[str, ...]
    unsigned: bool
    end_families: bool
    cluster: int | None
    accepted: tuple[str, ...]


class _Restored(NamedTuple):
    """What was restored: the backup's manifest, how many families ended, and the report of the log's verification."""

    manifest: Manifest
    ended: int
    report: Report


async def _restore(options: _RestoreOptions) -> _Restored:
    """Restore into a draft on own brokers, and from there onto the broker of `--nats`. Raises as `_run` catches."""
    backup, manifest = options.backup, _checked(options.backup)
    check_room(options.data, backup, manifest)
    terms = _terms(backup, manifest, options.kept, options.keys, options.unsigned)
    async with _target(options.nats, backup, manifest) as target:
        with draft_of(options.data) as draft:
            scratch = draft if target is None else draft / "log"
            scratch.mkdir(mode=0o700, exist_ok=True)
            copies = 1 if target is not None else options.cluster or 1
            async with own_brokers(scratch, backup, manifest, copies) as connection:
                with byte_progress("restoring", sum(stream.part.size for stream in manifest.streams)) as advance:
                    await restore_streams(connection, backup, manifest, copies, advance)
                report = await _verify(connection, terms, options.accepted)
                ended = await _end_families(connection, manifest) if options.end_families else 0
                if target is not None:
                    await copy_streams(connection, target, manifest, options.cluster, draft)
            if target is not None:
                shutil.rmtree(scratch)
            restore_keys(backup, manifest, draft, same_log=not options.end_families)
    return _Restored(manifest, ended, report)


def _report_restored(options: _RestoreOptions, restored: _Restored) -> None:
    manifest, log = restored.manifest, restored.manifest.log
    click.echo(f"restored and verified: {log.messages:,} commits, the last of them {log.last_seq:,}")
    report_accepted(restored.report, options.accepted)
    if options.end_families:
        click.echo(f"{restored.ended:,} families ended; the notary begins anew with a new key")
    else:
        click.echo(
            f"whatever was committed after {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC is not in it, revocations neither:"
            " if the service went on after that, restore with --end-families instead"
        )
    if options.kept is not None and options.unsigned:
        click.echo("NOT PROVEN: who signed the checkpoint. Signatures were not checked")
    elif not options.keys:
        click.echo("its checkpoints were held against a key of the backup's own at most: hold it against yours, --key")
    if not manifest.has_keys:
        click.echo(f"the backup holds no keys: put the keyring into {options.data} before you start the service")


@asynccontextmanager
async def _target(nats: str | None, backup: Path, manifest: Manifest) -> AsyncIterator[Connection | None]:
    """The broker that receives the restored log, if it is not our own; it must have no log yet."""
    if nats is None:
        yield None
        return
    known = credentials_in(backup, manifest) if urlsplit(nats).username is None else None
    async with open_bus(backup, nats, "backup", known) as connection:
        await refuse_to_overwrite(connection, manifest)
        yield connection


def _checked(backup: Path) -> Manifest:
    manifest = read_manifest(backup)
    with byte_progress("checking", sum(part.size for part in manifest.parts)) as advance:
        check(backup, manifest, advance)
    return manifest


def _terms(backup: Path, manifest: Manifest, kept: Path | None, given: tuple[str, ...], unsigned: bool) -> Terms:
    """The keys and the checkpoint that the log is checked against: given keys, or else the backup's own.

    A kept checkpoint is checked against given keys only: whoever made the backup made its keys as well. Raises
    `UnusableBackup` and `MalformedNote`.
    """
    public = manifest.file(NOTARY_PUBLIC_KEY)
    own = [] if public is None else parse_keys(read_part(backup, public).decode(errors="replace"))
    known = [] if unsigned else named(given)
    checkpoint = None if kept is None else read_kept(kept, None if unsigned else known)
    return Terms(tuple(map(str, [] if unsigned else known or own)), None if checkpoint is None else checkpoint.signed)


async def _verify(connection: Connection, terms: Terms, accepted: tuple[str, ...]) -> Report:
    """Verify as `heirloom audit verify`, except for accepted messages. Raises `UnusableBackup`."""
    report = await _report(connection, await last_sequence(connection), terms)
    if (why := obstacle(report, accepted)) is not None:
        raise UnusableBackup(why)
    return report


async def _report(connection: Connection, end: int, terms: Terms) -> Report:
    with progress("verifying", end) as advance:
        return await verify_log(connection, end, advance, terms)


async def _end_families(connection: Connection, manifest: Manifest) -> int:
    cause = f"restored from the backup of {manifest.made_at:%Y-%m-%dT%H:%M:%SZ}"
    with progress("ending families", manifest.log.messages) as advance:
        return await end_every_family(connection, cause, advance)


def _known(directory: Path, nats: str | None) -> Credentials | None:
    """The credentials that are made here, if the URL has none: that broker knows them (`heirloom broker-config`)."""
    if nats is None or urlsplit(nats).username is not None or not DataDirectory(directory).credentials.exists():
        return None
    return credentials.load(directory)


def _run(work: Callable[[], Coroutine[None, None, T]]) -> T:
    try:
        return asyncio.run(work())
    except (UnusableBackup, SnapshotFailed, Unavailable, KeyringError, MalformedNote) as error:
        raise click.ClickException(str(error)) from error
