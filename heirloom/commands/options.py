"""The options every command but `up` has: where the service is, and which tenant is meant."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from events.stream import JetStreamMissing, tenants
from events.subjects import TENANT
from heirloom.reach import open_bus, reach_log

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, path_type=Path)

DATA = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("heirloom-data"),
    show_default=True,
    is_eager=True,  # --tenant may have to ask there
    help="The data directory of `heirloom up`.",
)


def nats_url(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A URL, or some with commas between, as it is. A refusal repeats nothing of it: it may hold a password."""
    for one in (value or "nats://host").split(","):
        if not re.fullmatch(r"(nats|tls|ws|wss)://[^/]+/?", one):
            raise click.BadParameter("it takes a URL such as nats://USER:PASSWORD@HOST:4222")
    return value


NATS = click.option(
    "--nats",
    metavar="URL",
    is_eager=True,
    callback=nats_url,
    help="A broker of your own, with credentials, instead of --data.",
)


def _tenant(ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    if value is None:
        return asyncio.run(_only_tenant(ctx.params["data"], ctx.params["nats"]))
    if not TENANT.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no tenant's name")
    return value


async def _only_tenant(data: Path, nats: str | None) -> str:
    """The tenant there is. Raises `click.ClickException` where there are several, or none to be seen."""
    async with open_bus(data, nats, "auditor") as connection:
        try:
            await reach_log(connection)
            names = await tenants(connection)
        except JetStreamMissing as error:
            raise click.ClickException("name the tenant with --tenant, or in HEIRLOOM_TENANT") from error
    if len(names) != 1:
        known = ", ".join(names) or "none yet"
        raise click.ClickException(f"name the tenant with --tenant, or in HEIRLOOM_TENANT; there are: {known}")
    return names[0]


THE_TENANT = click.option(
    "--tenant",
    metavar="TENANT",
    envvar="HEIRLOOM_TENANT",
    callback=_tenant,
    help="Otherwise HEIRLOOM_TENANT, or the only one there is.",
)


def where(command: F) -> F:
    """Add `--data` and `--nats`."""
    return DATA(NATS(command))
