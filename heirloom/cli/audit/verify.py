"""`heirloom audit verify`: the whole log, read and checked."""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from events.aggregates.aggregate_names import STREAM
from events.bus.connection import Connection
from events.log.direct_reader import message_at
from events.log.stream import created
from events.verification.aggregate_store import Unusable
from events.verification.verifier import Report
from events.worker.parent import ChildGone, run_worker
from heirloom.cli.audit.trust_options import coverage, held_against
from heirloom.cli.log_connection import INTERRUPTED, described, reading
from heirloom.cli.progress_bar import progress
from heirloom.cli.tables import print_json, print_text
from notary.log_verifier import MODULE, Terms, VerificationProgress, Work, interrupted
from notary.merged_reader import Place, read_with_checkpoints
from notary.merkle_tree import leaf_hash
from notary.signed_note import parse_key

BATCH = 600
"""Small enough that the first commits are checked while the next ones are read."""


@click.command()
@held_against
@click.option(
    "--resume",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Go on where an interrupted verification of this log was; the file it wrote goes once that is done.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for pipes.")
def verify(data: Path, nats: str | None, resume: Path | None, as_json: bool, terms: Terms) -> None:
    """Read the whole log and check it.

    Chain, generations, states, rules, checkpoints: exits 1 at the first lie, and for each message that is no commit.
    Ctrl-C writes down how far it is, and --resume goes on from there.
    """
    save = resume or Path(f"heirloom-verify-{int(time.time())}.state")

    async def run() -> tuple[Report, float]:
        async with reading(data, nats) as (connection, end):
            started = time.perf_counter()
            with progress("verifying", end) as advance:
                report = await verify_log(connection, end, advance, terms, resume=resume, save=save)
            return report, time.perf_counter() - started

    try:
        report, seconds = asyncio.run(run())
    except KeyboardInterrupt:
        click.echo(_broken_off(save), err=True)
        sys.exit(INTERRUPTED)
    if resume is not None:
        resume.unlink(missing_ok=True)
    _show(report, seconds, terms, as_json)
    if report.fault is not None or report.foreign_count:
        sys.exit(1)


def _show(report: Report, seconds: float, terms: Terms, as_json: bool) -> None:
    if as_json:
        signed = {"signatures_checked": bool(terms.keys)}
        print_json({**msgspec.to_builtins(report._asdict()), **signed, "seconds": round(seconds, 3)})
    else:
        counts = f"{report.commits:,} commits of {report.aggregates:,} aggregates, {report.families:,} of them families"
        others = f"; foreign messages: {report.foreign_count:,}" if report.foreign_count else ""
        click.echo(f"read {counts}{others} ({seconds:.1f} s)")
        if report.fault is None:
            but = " but for what is foreign" if report.foreign_count else ""
            click.echo(f"whole{but}: every commit follows from the one before it, every state from its events")
            click.echo(coverage(report, terms))
    for foreign in report.foreign:
        click.echo(f"FOREIGN: {described(foreign)}", err=as_json)
    if report.foreign_count > len(report.foreign):
        click.echo(f"FOREIGN: and {report.foreign_count - len(report.foreign):,} more", err=as_json)
    if report.fault is not None:
        others = f" ({report.faulty:,} aggregates are affected)" if report.faulty > 1 else ""
        where = "sequence" if report.fault.stream == STREAM else f"{report.fault.stream} sequence"
        print_text(f"BAD: {where} {report.fault.seq}: {report.fault.why}{others}", err=as_json)


def _broken_off(save: Path) -> str:
    try:
        made = interrupted(save)
    except Unusable:
        return "interrupted; there is nothing to go on from"
    tally, seen = made.tally, made.seen
    so_far = "with" if tally.faults or tally.foreign_count or seen.contradiction or seen.foreign_count else "without"
    return (
        f"interrupted at sequence {made.tally.seq:,}, {so_far} a fault so far;"
        f" to go on: the same command with --resume {save}"
    )


async def verify_log(
    connection: Connection,
    end: int,
    advance: Callable[[int], None],
    terms: Terms = Terms(),  # noqa: B008  # a value
    *,
    resume: Path | None = None,
    save: Path | None = None,
) -> Report:
    """Verify the log up to `end` on these terms; `advance` receives the progress.

    Continues from `resume`; when cancelled, it writes its progress to `save`. Raises `click.ClickException` where the
    log cannot be verified now.
    """
    beginning = VerificationProgress(await created(connection), terms)
    if resume is not None:
        beginning = await _resumed(connection, resume, beginning)
    work = Work(beginning, end, *(None if path is None else str(path) for path in (resume, save)))

    def answered(answer: bytes) -> Report:
        report = msgspec.json.decode(answer, type=Report)
        advance(report.messages)
        return report

    place = Place(beginning.tally.seq, beginning.seen.checkpoints)
    batches = read_with_checkpoints(connection, end, place, [parse_key(key) for key in terms.keys])
    try:
        return answered(await run_worker((MODULE, msgspec.json.encode(work).decode()), batches, answered, BATCH))
    except ChildGone as gone:
        raise click.ClickException(f"the verification broke off: {gone}") from gone


async def _resumed(connection: Connection, path: Path, now: VerificationProgress) -> VerificationProgress:
    """The progress in the file, if it is of this log as it is now, and on these terms."""
    try:
        before = interrupted(path)
    except Unusable as unusable:
        raise click.ClickException(str(unusable)) from unusable
    size = before.seen.tree.size
    last = await message_at(connection, size) if size else None
    if before.log != now.log or size != before.tally.seq or (size and last is None):
        raise click.ClickException(f"{path} is of another log than this; verify this one without --resume")
    if last is not None and leaf_hash(last.body) != before.seen.last_leaf:
        raise click.ClickException(f"the log holds another commit at {size} than when {path} was written: verify anew")
    if before.terms != now.terms:
        raise click.ClickException(f"{path} was held against other keys or another checkpoint: name the same ones")
    return before
