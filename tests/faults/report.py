"""The report of a run: counts by request and by fault, outages, and violations."""

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.history import Operation
from tests.faults.run import Result

SHOWN = 20
"""The number of violations that are printed."""


def figures(result: Result) -> dict[str, Any]:
    """The figures as JSON values."""
    outcomes = Counter(operation.outcome for operation in result.operations)
    return {
        "operations": len(result.operations),
        "answered": outcomes["ok"] + outcomes["fail"],
        "unanswered": outcomes["info"],
        "acknowledged": sum(operation.commit is not None for operation in result.operations),
        "commits": result.commits,
        "faults": dict(sorted(Counter(name for _, name in result.faults).items())),
        "outage_seconds": outages(result),
        "recovered_seconds": round(result.recovered, 2),
        "violations": len(result.violations),
    }


def outages(result: Result) -> dict[str, tuple[float, float]]:
    """For each fault the median and the longest time without a commit, from the fault until the next one."""
    answered = sorted(operation.ended for operation in result.operations if _wrote(operation))
    ends = [at for at, _ in result.faults[1:]] + [answered[-1] if answered else 0.0]
    gaps: dict[str, list[float]] = {}
    position = 0
    for (at, name), end in zip(result.faults, ends, strict=True):
        longest, before = 0.0, at
        while position < len(answered) and answered[position] < end:
            if answered[position] >= at:
                longest, before = max(longest, answered[position] - before), answered[position]
            position += 1
        gaps.setdefault(name, []).append(max(longest, end - before))
    return {
        name: (round(sorted(found)[len(found) // 2], 2), round(max(found), 2)) for name, found in sorted(gaps.items())
    }


def _wrote(operation: Operation) -> bool:
    return operation.outcome == "ok" and operation.commit is not None


def show(result: Result, console: Console) -> None:
    """Print tables."""
    console.print(_requests(result.operations))
    console.print(_faults(result))
    console.print(
        f"{len(result.operations)} operations, {result.commits} commits, every node's copy compared; "
        f"in full service {result.recovered:.1f} s after the last fault"
    )
    for violation in result.violations[:SHOWN]:
        console.print(f"[red]broken[/red]: {violation.rule}: {violation.where}")
    console.print(f"violations: {len(result.violations)}")


def _requests(operations: list[Operation]) -> Table:
    table = Table("request", "ok", "refused", "unknown", "p50 ms", "p99 ms", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for why in sorted({operation.why for operation in operations}):
        those = [operation for operation in operations if operation.why == why]
        counts = Counter(operation.outcome for operation in those)
        took = sorted(operation.ended - operation.began for operation in those if operation.outcome != "info")
        times = [f"{1000 * took[int(len(took) * share)]:.1f}" for share in (0.5, 0.99)] if took else ["", ""]
        table.add_row(why, str(counts["ok"]), str(counts["fail"]), str(counts["info"]), *times)
    return table


def _faults(result: Result) -> Table:
    table = Table("fault", "times", "median s", "longest s without a commit", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    counts = Counter(name for _, name in result.faults)
    for name, (median, longest) in outages(result).items():
        table.add_row(name, str(counts[name]), f"{median:.2f}", f"{longest:.2f}")
    return table
