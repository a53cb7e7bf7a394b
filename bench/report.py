"""Prints the figures as tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.goals import Goal
from bench.machine import Figure, this_machine
from bench.peers import Peer
from bench.service.audit_queries import QueryTime
from bench.service.connections import Connections
from bench.service.edge import Edge
from bench.service.fairness import PER_SECOND, Fairness
from bench.service.load import FULL, Load
from bench.service.readmodel import Lag, Rebuild
from bench.service.refresh import Refresh
from bench.service.revocation import Revocation
from bench.service.scale import Size
from bench.service.whole import Whole
from bench.yardsticks.appends import Appends
from bench.yardsticks.disk import Disk
from bench.yardsticks.signature import Signature
from bench.yardsticks.verification import Verification

DISTURBED_CORES = 0.25
"""If other processes kept more cores busy than this, a ratio of two rates is unreliable."""


def show(console: Console, figures: Sequence[Figure], goals: Sequence[Goal], notes: Sequence[str]) -> None:
    """Print a table for each kind of figure, then the goals, and notes on what could not be measured."""
    refreshes = [figure for figure in figures if isinstance(figure, Refresh)]
    tables = [
        _refreshes(refreshes),
        _appends(figure for figure in figures if isinstance(figure, Appends)),
        _signatures([figure for figure in figures if isinstance(figure, Signature)]),
        _verifications(figure for figure in figures if isinstance(figure, Verification)),
        _revocations(figure for figure in figures if isinstance(figure, Revocation)),
        _connections(figure for figure in figures if isinstance(figure, Connections)),
        _disk(figure for figure in figures if isinstance(figure, Disk)),
        _edge(figure for figure in figures if isinstance(figure, Edge)),
        _fairness(figure for figure in figures if isinstance(figure, Fairness)),
        _rebuilds(figure for figure in figures if isinstance(figure, Rebuild)),
        _lags(figure for figure in figures if isinstance(figure, Lag)),
        _wholes(figure for figure in figures if isinstance(figure, Whole)),
        _query_times(figure for figure in figures if isinstance(figure, QueryTime)),
        _sizes(figure for figure in figures if isinstance(figure, Size)),
        _peers([figure for figure in figures if isinstance(figure, Peer)], refreshes),
        _goals(goals),
    ]
    for table in tables:
        if table.row_count:
            title, table.title = table.title, None
            console.print(title, style="bold")
            console.print(table)
            console.print(str(this_machine()), style="dim", end="\n\n", highlight=False)
    for note in notes:
        console.print(note)


def write(file: Path, figures: Sequence[Figure]) -> None:
    """Write all figures as a JSON array of objects with their kind (`figure`) and `machine`."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")


def _table(title: str, *columns: str) -> Table:
    """Make a table whose first column has text and the others figures."""
    table = Table(title=title, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(columns[0], vertical="bottom")
    for column in columns[1:]:
        table.add_column(column, justify="right", vertical="bottom", no_wrap=True)
    return table


def _load(load: Load) -> tuple[str, str, str]:
    return f"{load.per_second:,.0f}", f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}"


def _counts(errors: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in errors.items()) or "0"


def _refreshes(figures: Sequence[Refresh]) -> Table:
    table = _table(
        "Refreshes over the bus; CPU µs per refresh; others: cores busy elsewhere",
        "sync",
        "at\nonce",
        "per s",
        "p50\nms",
        "p99\nms",
        "service",
        "read\nmodel",
        "feed",
        "notary",
        "broker",
        "load",
        "others",
        "errors",
    )
    for figure in figures:
        cpu = (
            f"{figure.load.cpu_us[name]:.0f}"
            for name in ("service", "projector", "publisher", "notary", "broker", "load")
        )
        others = f"{figure.load.others:.1f}"
        table.add_row(
            figure.sync, str(figure.in_flight), *_load(figure.load), *cpu, others, _counts(figure.load.errors)
        )
    return table


def _appends(figures: Iterable[Appends]) -> Table:
    columns = "sync", "at once", "bytes", "per s", "p50 ms", "p99 ms", "client", "broker", "others", "errors"
    table = _table(
        "Bare compare-and-swap appends, plain nats-py; CPU µs per append; others: cores busy elsewhere", *columns
    )
    for figure in figures:
        cpu = (f"{figure.load.cpu_us[name]:.0f}" for name in ("client", "broker"))
        sizes = str(figure.in_flight), str(figure.size)
        others = f"{figure.load.others:.1f}"
        table.add_row(figure.sync, *sizes, *_load(figure.load), *cpu, others, _counts(figure.load.errors))
    return table


def _signatures(figures: Sequence[Signature]) -> Table:
    table = _table("One ES256 signature, joserfc; its drift is the machine's", "when", "CPU µs", "drift")
    for figure in figures:
        table.add_row(figure.when, f"{figure.cpu_us:.1f}", f"{figure.cpu_us / figures[0].cpu_us - 1:+.1%}")
    return table


def _verifications(figures: Iterable[Verification]) -> Table:
    columns = "joserfc's own", "the library's", "with many revoked", "revoked families", "their memory MB"
    table = _table("Verification of an ES256 access token, CPU µs", "", *columns)
    for figure in figures:
        times = (f"{time:.1f}" for time in (figure.joserfc_us, figure.cpu_us, figure.crowded_us))
        table.add_row("", *times, f"{figure.families:,}", f"{figure.memory_mb:.0f}")
    return table


def _revocations(figures: Iterable[Revocation]) -> Table:
    columns = "verifiers", "samples", "refreshes/s", "p50 ms", "p99 ms", "publish p50 ms", "publish p99 ms"
    title = "From an acknowledged revocation to its rejection by all; from a raw publish to its receipt by as many"
    table = _table(title, "", *columns)
    for figure in figures:
        times = figure.p50_ms, figure.p99_ms, figure.round_p50_ms, figure.round_p99_ms
        counts = f"{figure.verifiers}", f"{figure.samples}", f"{figure.refreshes_per_second:,.0f}"
        table.add_row("", *counts, *(f"{time:.2f}" for time in times))
    return table


def _disk(figures: Iterable[Disk]) -> Table:
    columns = "families in turn", "whole blocks", "commits in them", "bytes", "bytes per refresh"
    table = _table("Log on disk: file sizes of whole blocks ÷ the commits in them", *columns)
    for figure in figures:
        counts = (figure.families, figure.blocks, figure.commits, figure.size)
        table.add_row(*(f"{count:,}" for count in counts), f"{figure.per_commit:.0f}")
    return table


def _edge(figures: Iterable[Edge]) -> Table:
    columns = "sync", "at once", "by subject", "by secret", "others", "errors"
    table = _table("Refresh by client_secret_basic vs subject, service CPU µs; others: cores busy elsewhere", *columns)
    for figure in figures:
        cpu = f"{figure.subject_us:.0f}", f"{figure.secret_us:.0f}", f"{figure.others:.1f}"
        table.add_row(figure.sync, str(figure.in_flight), *cpu, _counts(figure.errors))
    return table


def _fairness(figures: Iterable[Fairness]) -> Table:
    title = f"Introspections of a client at {PER_SECOND} a second, beside one that floods"
    table = _table(title, "the other", "per s", "p50 ms", "p99 ms")
    for figure in figures:
        table.add_row("idle", "0", f"{figure.idle_p50_ms:.2f}", f"{figure.idle_p99_ms:.2f}")
        flooded = f"{figure.flooded_p50_ms:.2f}", f"{figure.flooded_p99_ms:.2f}"
        table.add_row("floods", f"{figure.flood_per_second:,.0f}", *flooded)
    return table


def _connections(figures: Iterable[Connections]) -> Table:
    columns = "shown", "per s", "p50 ms", "service CPU µs", "client CPU µs"
    table = _table("Connections, eight at once, each let in by the service", *columns)
    for figure in figures:
        cpu = f"{figure.service_us:.0f}", f"{figure.client_us:.0f}"
        table.add_row(figure.proof, f"{figure.per_second:,.0f}", f"{figure.p50_ms:.1f}", *cpu)
    return table


def _rebuilds(figures: Iterable[Rebuild]) -> Table:
    table = _table("Reading the whole log", "how", "commits", "per s", "CPU µs per commit")
    for figure in figures:
        commits = f"{figure.commits:,}"
        alone = f"{figure.reading_per_second:,.0f}", f"{figure.reading_cpu_us:.1f}"
        table.add_row("nats-py alone, ordered push consumer", commits, *alone)
        table.add_row("into a fresh read model", commits, f"{figure.per_second:,.0f}", f"{figure.cpu_us:.1f}")
    return table


def _lags(figures: Iterable[Lag]) -> Table:
    columns = "at once", "refreshes/s", "samples", "p50 ms", "max ms", "p50 commits", "max commits", "errors"
    table = _table("The read model behind the log, sync default", *columns)
    for figure in figures:
        times = f"{figure.p50_ms:.1f}", f"{figure.max_ms:.1f}"
        commits = f"{figure.p50_commits:,}", f"{figure.max_commits:,}"
        table.add_row(
            str(figure.in_flight),
            f"{figure.per_second:,.0f}",
            str(figure.samples),
            *times,
            *commits,
            _counts(figure.errors),
        )
    return table


def _wholes(figures: Iterable[Whole]) -> Table:
    columns = "what", "commits", "per s", "first tenth", "last tenth", "CPU µs", "memory MiB", "others"
    table = _table("The whole log, turn by turn; others: cores busy elsewhere", *columns)
    for figure in figures:
        rates = (f"{rate:,.0f}" for rate in (figure.per_second, figure.first_tenth, figure.last_tenth))
        used = f"{figure.cpu_us:.1f}", f"{figure.peak_mib:.0f}", f"{figure.others:.1f}"
        table.add_row(figure.what, f"{figure.commits:,}", *rates, *used)
    return table


def _query_times(figures: Iterable[QueryTime]) -> Table:
    table = _table("Audit queries on it, over the bus", "query", "p50 ms", "p99 ms")
    for figure in figures:
        asked = f"{figure.query}: {figure.about}" if figure.about else figure.query
        table.add_row(asked, f"{figure.p50_ms:.1f}", f"{figure.p99_ms:.1f}")
    return table


def _sizes(figures: Iterable[Size]) -> Table:
    table = _table("The read model of it on disk", "families", "commits", "MB", "bytes per commit")
    for figure in figures:
        size = f"{figure.size / 1e6:,.0f}", f"{figure.per_commit:.0f}"
        table.add_row(f"{figure.families:,}", f"{figure.commits:,}", *size)
    return table


def _peers(figures: Sequence[Peer], ours: Iterable[Refresh]) -> Table:
    columns = "service", "per s", "p50 ms", "p99 ms", "server CPU ms", "store CPU ms", "errors"
    table = _table(f"Refreshes at {FULL} in flight, beside others", *columns)
    if not figures:
        return table
    for mine in ours:
        if mine.in_flight == FULL:
            cpu = (f"{mine.load.cpu_us[name] / 1000:.2f}" for name in ("service", "broker"))
            table.add_row(
                f"Heirloom, over the bus, sync {mine.sync}", *_load(mine.load), *cpu, _counts(mine.load.errors)
            )
    for peer in figures:
        times = f"{peer.per_second:,.0f}", f"{peer.p50_ms:.2f}", f"{peer.p99_ms:.2f}"
        cpu = (f"{peer.cpu_ms[name]:.2f}" if name in peer.cpu_ms else "-" for name in ("server", "db"))
        table.add_row(peer.label, *times, *cpu, _counts(peer.errors))
    return table


def _goals(goals: Sequence[Goal]) -> Table:
    table = _table("Goals", "what", "measured", "goal", "")
    for goal in goals:
        digits = 0 if goal.unit else 2
        measured = f"{goal.value:,.{digits}f} {goal.unit}"
        bound = f"{goal.relation} {goal.bound:,.{digits}f} {goal.unit}"
        verdict = "[green]reached[/green]" if goal.is_reached else "[yellow]missed[/yellow]"
        disturbed = ", disturbed" if goal.others > DISTURBED_CORES else ""
        table.add_row(goal.what, measured, bound, verdict + disturbed)
    return table
