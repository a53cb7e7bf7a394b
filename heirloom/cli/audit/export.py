"""`heirloom audit export`: the log's events for a data warehouse or a SIEM."""

import asyncio
import os
import signal
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple

import click

from events.aggregates.aggregate_names import FAMILY_ID, TENANT
from events.aggregates.commit import UnreadableCommit
from events.log.direct_reader import has_tenant
from heirloom.cli.log_connection import INTERRUPTED, reading, report_foreign
from heirloom.cli.options import where
from heirloom.cli.progress_bar import progress
from heirloom.cli.tables import print_text
from heirloom.cli.time_param import MomentParam
from heirloom.export.export import (
    FORMATS,
    PARQUET,
    Missing,
    Remainder,
    Selection,
    find_position,
    open_sink,
    resume,
    write_records,
)
from heirloom.export.line_formats import BadExport, ExportPosition
from heirloom.moment import Moment, is_inverted


class _Job(NamedTuple):
    """What to export, in which format, and where to: `file`, or None for standard output."""

    selection: Selection
    form: str
    file: Path | None
    follow: bool


@click.command()
@where
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="jsonl",
    show_default=True,
    help="Parquet needs heirloom-oauth[parquet].",
)
@click.option("--since", type=MomentParam(past=True), help="From that sequence or time on.")
@click.option("--until", type=MomentParam(end_of_day=True), help="Up to that sequence or time.")
@click.option(
    "--tenant",
    metavar="TENANT",
    envvar="HEIRLOOM_TENANT",
    help="Of this tenant alone; otherwise of HEIRLOOM_TENANT, or of all.",
)
@click.option("--family", "family_id", metavar="FAMILY_ID", help="Of this family alone.")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default=Path("-"),
    metavar="FILE",
    help="A new file, or for Parquet a directory of parts; otherwise standard output.",
)
@click.option("--resume", "go_on", is_flag=True, help="Go on after the last commit that is in FILE.")
@click.option("--follow", is_flag=True, help="Go on as commits arrive, until SIGTERM or Ctrl-C.")
def export(  # noqa: PLR0913  # a command's options are its parameters
    data: Path,
    nats: str | None,
    form: str,
    since: Moment | None,
    until: Moment | None,
    tenant: str | None,
    family_id: str | None,
    into: Path,
    go_on: bool,
    follow: bool,
) -> None:
    """Write the log's events, a record each.

    Nothing that is secret is in them.

    What was interrupted goes on with --resume: no record is there twice, and none is missing.
    """
    file = None if str(into) == "-" else into
    job = _Job(Selection(since, until, tenant, family_id), form, file, follow)
    _check(job, go_on)
    try:
        position = find_position(file, form) if file is not None and go_on else None
        last = asyncio.run(_export(data, nats, job, position))
    except KeyboardInterrupt:
        again = "" if file is None else "; to go on: the same command with --resume"
        click.echo(f"interrupted{again}", err=True)
        sys.exit(INTERRUPTED)
    except (BadExport, UnreadableCommit, Missing) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if file is None:
            raise  # the reader of standard output has left
        raise click.ClickException(f"{error.filename or file}: {error.strerror}") from error
    if file is not None:
        print_text(f"{file} goes up to sequence {last}" if last else "there was nothing to write")


async def _export(data: Path, nats: str | None, job: _Job, position: ExportPosition | None) -> int:
    """Write the records after `position`; returns the sequence reached."""
    last = 0

    def advanced(seq: int) -> None:
        nonlocal last
        last = seq
        advance(seq)

    tenant = job.selection.tenant
    async with reading(data, nats) as (connection, end):
        if tenant is not None and not await has_tenant(connection, tenant):
            raise click.ClickException(f"the log has no tenant {tenant}")
        resumed = await resume(connection, position, job.selection) if position is not None else None
        bar = nullcontext(lambda _: None) if job.file is None or job.follow else progress("exporting", end)
        with closing(open_sink(job.file, job.form, resumed)) as sink, bar as advance:
            last = 0 if position is None else position.seq
            remainder = Remainder(last, None if job.follow else end)
            writing = asyncio.create_task(
                write_records(connection, sink, job.selection, remainder, advanced, report_foreign)
            )
            if job.follow:
                for signum in (signal.SIGTERM, signal.SIGINT):
                    asyncio.get_running_loop().add_signal_handler(signum, writing.cancel)
            try:
                await writing
            except asyncio.CancelledError:
                if not job.follow:
                    raise  # somebody else requests an end; --follow has no other
    return last


def _check(job: _Job, go_on: bool) -> None:
    selection, form, file, follow = job
    if selection.family_id is not None and not FAMILY_ID.fullmatch(selection.family_id):
        raise click.BadParameter(f"{selection.family_id!r} is no family's id", param_hint="--family")
    if selection.tenant is not None and not TENANT.fullmatch(selection.tenant):
        raise click.BadParameter(f"{selection.tenant!r} is no tenant's name", param_hint="--tenant")
    if is_inverted(selection.since, selection.until):
        raise click.UsageError("--since is after --until")
    if follow and (selection.until is not None or form == PARQUET):
        raise click.UsageError("--follow has no end: neither --until nor Parquet goes with it")
    if file is None and (go_on or form == PARQUET):
        raise click.UsageError("name where to write with --into")
    if file is not None and os.path.lexists(file) and not go_on:
        raise click.ClickException(f"{file} exists already; go on with --resume, or name another with --into")
