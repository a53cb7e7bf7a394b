"""Progress bars on a terminal's standard error; elsewhere there are none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that receives how much of `total` is done."""
    with _bar(what, total, MofNCompleteColumn()) as (bar, task):
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def byte_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that receives the bytes of each piece of `total` bytes."""
    with _bar(what, total, DownloadColumn()) as (bar, task):
        yield lambda more: bar.update(task, advance=more)


@contextmanager
def _bar(what: str, total: int, counts: ProgressColumn) -> Iterator[tuple[Progress, TaskID]]:
    columns = SpinnerColumn(), TextColumn(what), BarColumn(), counts, TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task(what, total=total)
