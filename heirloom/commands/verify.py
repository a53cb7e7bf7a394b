"""`heirloom audit verify`: the whole log, read and checked."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import click
import msgspec

from events.bus import Connection
from events.pipe import Pipe
from events.reader import read
from events.verify import Report
from heirloom.commands.held_against import held_against, told
from heirloom.commands.reading import progress, reading
from heirloom.commands.tables import print_json
from notary.verify import Terms, of_nothing


@click.command()
@held_against
@click.option("--json", "as_json", is_flag=True, help="For pipes.")
def verify(data: Path, nats: str | None, as_json: bool, terms: Terms) -> None:
    """Read the whole log and check it: chain, generations, states, checkpoints. Exits 1 at the first lie."""

    async def run() -> tuple[Report, float]:
        async with reading(data, nats) as (connection, end):
            started = time.perf_counter()
            with progress("verifying", end) as advance:
                report = await verify_log(connection, end, advance, terms)
            return report, time.perf_counter() - started

    report, seconds = asyncio.run(run())
    if as_json:
        print_json({**msgspec.to_builtins(report._asdict()), "seconds": round(seconds, 3)})
    else:
        rate = f"{seconds:.1f} s, {report.commits / max(seconds, 1e-9):,.0f} commits/s"
        counts = f"{report.commits:,} commits of {report.aggregates:,} aggregates, {report.families:,} of them families"
        click.echo(f"read {counts} ({rate})")
        if report.fault is None:
            click.echo("whole: every commit follows from the one before it, every state from its events")
            click.echo(told(report, terms))
    if report.fault is not None:
        others = f" ({report.faulty:,} aggregates are affected)" if report.faulty > 1 else ""
        click.echo(f"BAD: sequence {report.fault.seq}: {report.fault.why}{others}", err=as_json)
        sys.exit(1)


async def verify_log(
    connection: Connection,
    end: int,
    advance: Callable[[int], None],
    terms: Terms = Terms(),  # noqa: B008  # a value
) -> Report:
    """Verify the log up to `end` on these terms; `advance` hears how far it is.

    Raises `click.ClickException` if it cannot be done.
    """
    report = of_nothing(terms)
    trouble: BaseException | None = None

    def answered(answer: asyncio.Future[bytes]) -> None:
        nonlocal report, trouble
        if (trouble := answer.exception()) is None:
            report = msgspec.json.decode(answer.result(), type=Report)
            advance(report.commits)

    if end > 0:
        argument = msgspec.json.encode(terms._replace(end=end)).decode()
        pipe = await Pipe.start("notary.verify", argument)
        try:
            async with aclosing(read(connection, until=end)) as batches:
                await pipe.pour(batches, answered)
        finally:
            await pipe.close()
    if trouble is not None:
        raise click.ClickException(f"the verification broke off: {trouble}")
    return report
