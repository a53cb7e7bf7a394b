"""The options every command but `up` has: where the service is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DATA = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("heirloom-data"),
    show_default=True,
    help="The data directory of a running `heirloom up`.",
)
NATS = click.option("--nats", metavar="URL", help="A broker of your own, with credentials, instead of --data.")


def where(command: F) -> F:
    """Add `--data` and `--nats`."""
    return DATA(NATS(command))
