"""The command line: `python -m bench` measures the service, `python -m bench scale` a long log."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import peers, report
from bench.goals import goals
from bench.machine import Figure
from bench.service import connections, edge, fairness, readmodel, refresh, revocation, scale
from bench.service.load import FULL
from bench.service.service import SYNCS, Service, serving
from bench.yardsticks import appends, disk, signature, verification
from bench.yardsticks.signature import BESIDE
from heirloom.process.child_process import ChildFailed
from heirloom.process.event_loop import run
from heirloom.supervisor.preparation import CannotStart

IN_FLIGHT = (1, 16, FULL)
FAMILIES = (FULL, 5000)
SMALL = 500
FAIR_SECONDS = 15
"""Long enough for a p99 of ten requests a second."""
REVOKING_SECONDS = 15
"""Long enough for a p99 of twenty a second."""
TURNS = 3
NAMES = (
    *("refresh", "appends", "signature", "verification", "edge", "fairness", "connections", "revocation", "disk"),
    *("readmodel", "peers"),
)

JSON = click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too."
)
ON_DEFAULT = {"edge", "fairness", "connections", "revocation", "disk", "readmodel"}

Doing = Callable[[str], None]


@click.group(invoke_without_command=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5),
    default=4,
    show_default=True,
    help="For each measurement; half of it where three take turns.",
)
@click.option("--only", type=click.Choice(NAMES), multiple=True, help="Measure this alone; can be repeated.")
@JSON
@click.option(
    "--peers",
    "directory",
    envvar="HEIRLOOM_PEERS",
    type=click.Path(file_okay=False, path_type=Path),
    help="Other token services and the scripts that run them.",
)
@click.pass_context
def main(ctx: click.Context, seconds: float, only: tuple[str, ...], file: Path | None, directory: Path | None) -> None:
    """Measure the service beside its yardsticks, on this machine, now."""
    if ctx.invoked_subcommand is None:
        names, notes = only or NAMES, list[str]()
        _report(file, notes, lambda doing: _service(names, seconds, directory, doing, notes))


@main.command("scale")
@click.option("--commits", type=click.IntRange(min=100_000), default=1_000_000, show_default=True, help="In the log.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the history that is made up.")
@JSON
def scale_command(commits: int, seed: int, file: Path | None) -> None:
    """Measure rebuild, verification and every audit query on a long log. Takes some minutes and 2 GB of disk."""
    _report(file, [], lambda doing: scale.measure(commits, seed, doing))


def _report(file: Path | None, notes: list[str], measure: Callable[[Doing], AsyncGenerator[Figure, None]]) -> None:
    """Measure, show the figures and the notes, and write the figures to the file too."""
    figures: list[Figure] = []

    async def collect() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with _progress() as progress:
            line = progress.add_task("", total=None)
            async with aclosing(measure(lambda what: progress.update(line, description=what))) as measured:
                figures.extend([figure async for figure in measured])

    try:
        run(collect())
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)  # all started processes have ended in order
    except (CannotStart, ChildFailed) as error:
        raise click.ClickException(str(error)) from error
    reached = goals(figures)
    report.show(Console(), figures, reached, notes)
    if file is not None:
        report.write(file, [*figures, *reached])


async def _service(
    names: tuple[str, ...], seconds: float, directory: Path | None, doing: Doing, notes: list[str]
) -> AsyncGenerator[Figure, None]:
    async with aclosing(_measure(names, seconds, doing)) as measured:
        async for figure in measured:
            yield figure
    if "peers" in names:
        for figure in await _peers(directory, seconds, doing, notes):
            yield figure


def _progress() -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn()
    # drawn seldom, because it shares a process with the load
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, refresh_per_second=2, disable=not console.is_terminal)


async def _measure(names: tuple[str, ...], seconds: float, doing: Doing) -> AsyncGenerator[Figure, None]:
    doing("signature")
    yield signature.measure("start")
    if "verification" in names:
        doing("verification, and a million revoked families")
        yield verification.measure()
    for sync in SYNCS:
        if {"refresh", "appends"} & set(names) or (sync == "default" and ON_DEFAULT & set(names)):
            doing(f"starting the service, sync {sync}")
            async with serving(sync) as service, aclosing(_on(service, names, seconds, doing)) as measured:
                async for figure in measured:
                    yield figure
    doing("signature")
    yield signature.measure("end")


async def _on(service: Service, names: tuple[str, ...], seconds: float, doing: Doing) -> AsyncGenerator[Figure, None]:
    """Measure refreshes and yardsticks in turns, so that a slower machine affects all; the median turn counts."""
    for in_flight in IN_FLIGHT:
        turns = [await _turn(service, names, in_flight, seconds / 2, doing) for _ in range(TURNS)]
        for measured in sorted(turns, key=_ratio)[TURNS // 2]:
            yield measured
    if service.sync != "default":
        return
    if "edge" in names:
        doing(f"refreshes by secret and by subject, {max(IN_FLIGHT)} in flight")
        yield await edge.measure(service, max(IN_FLIGHT), seconds)
    if "fairness" in names:
        doing("a client beside one that floods")
        yield await fairness.measure(service, max(FAIR_SECONDS, seconds))
    if "connections" in names:
        doing("connections")
        for figure in await connections.measure(service, seconds):
            yield figure
    if "revocation" in names:
        doing("revocations, until verifiers reject")
        yield await revocation.measure(service, max(REVOKING_SECONDS, seconds))
    if "disk" in names:
        for families in FAMILIES:
            doing(f"log on disk, {families:,} families in turn")
            yield await disk.measure(service, families)
    if "readmodel" in names:
        doing("the read model under full load")
        yield await readmodel.lag(service, max(IN_FLIGHT), seconds)
        doing("the read model built anew")
        yield await readmodel.rebuild(service)


Turn = list[refresh.Refresh | appends.Appends | signature.Signature]


async def _turn(service: Service, names: tuple[str, ...], in_flight: int, seconds: float, doing: Doing) -> Turn:
    figures: Turn = []
    if "refresh" in names:
        doing(f"refreshes, sync {service.sync}, {in_flight} in flight")
        figures.append(await refresh.measure(service, in_flight, seconds))
    if "signature" in names and in_flight == max(IN_FLIGHT):
        doing("signature")
        figures.append(signature.measure(f"{BESIDE}, sync {service.sync}"))
    if "appends" in names:
        real = await appends.real_body(service)
        for body in (real, real[:SMALL]):
            doing(f"bare appends of {len(body)} bytes, sync {service.sync}, {in_flight} in flight")
            figures.append(await appends.measure(service, in_flight, body, seconds))
    return figures


def _ratio(turn: Turn) -> float:
    """The ratio of the refreshes' rate to the next one, if there are both."""
    rates = [figure.load.per_second for figure in turn if not isinstance(figure, signature.Signature)]
    return rates[0] / rates[1] if len(rates) > 2 else sum(rates)


async def _peers(directory: Path | None, seconds: float, doing: Doing, notes: list[str]) -> list[Figure]:
    if directory is None:
        notes.append("Peers: not measured; name their directory with --peers or HEIRLOOM_PEERS.")
        return []
    found: list[Figure] = []
    for script in peers.SCRIPTS:
        if lacking := peers.missing(script, directory):
            notes.append(f"Peers: {script.name} not run; missing: {', '.join(lacking)}.")
            continue
        doing(f"peers: {script.name}")
        try:
            found += await peers.run(script, directory, seconds, lambda label: doing(f"peers: {label} done"))
        except RuntimeError as error:
            notes.append(f"Peers: {error}.")
    return found


if __name__ == "__main__":
    main()
