"""The options of every command but `up`: where the service is, and which tenant is meant."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from events.aggregates.aggregate_names import TENANT
from events.log.jetstream_api import JetStreamMissing
from events.log.stream import tenants
from heirloom.broker.own_connection import named_in
from heirloom.cli.service_connection import open_bus, reach_log

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, path_type=Path)


class DataDirectoryParam(click.Path):
    """The path of a directory; an empty path, which would be the current directory, is refused."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, as click converts it."""
        if value == "":
            self.fail("it names no directory; the current one is `.`", param, ctx)
        return super().convert(value, param, ctx)


DATA = click.option(
    "--data",
    type=DataDirectoryParam(),
    default=Path("heirloom-data"),
    show_default=True,
    is_eager=True,  # --tenant may need it to find the only tenant
    help="The data directory of `heirloom up`.",
)


MAX_URLS_BYTES = 1 << 16


def nats_url(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A URL, or several separated by commas, given directly or in the file after an `@`.

    An error repeats nothing of it: it may contain a password.
    """
    if value is None:
        return None
    if value.startswith("@"):
        value = _read_urls(Path(value[1:]))
    for one in value.split(","):
        is_url = re.fullmatch(r"(nats|tls|ws|wss)://[^/\s]+/?", one)
        if is_url and not _has_good_port(one):
            raise click.BadParameter("the port in its URL is no number from 1 to 65535, or the host is no address")
        if not is_url:
            raise click.BadParameter("it takes a URL such as nats://USER:PASSWORD@HOST:4222, or @FILE with one")
    return value


def _has_good_port(url: str) -> bool:
    """Whether the port is valid, or absent: then it is 4222."""
    try:
        return urlsplit(url).port != 0
    except ValueError:  # no number, or too large a one; or brackets without an address
        return False


def _read_urls(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_URLS_BYTES).decode().strip()
    except OSError as error:
        raise click.BadParameter(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # no text, or no path
        raise click.BadParameter("the file after the @ is no text file") from error


def nats_option(
    text: str, callback: Callable[[click.Context, click.Parameter, str | None], str | None] = nats_url
) -> Callable[[F], F]:
    """`--nats`, or HEIRLOOM_NATS: a command line is visible to other users, passwords included; these two are not."""
    return click.option(
        "--nats",
        metavar="URL|@FILE",
        envvar="HEIRLOOM_NATS",
        is_eager=True,
        callback=callback,
        help=f"{text} With a password in it, name a file, or set HEIRLOOM_NATS: other users see command lines.",
    )


def _unless_data(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The URL, unless it comes from the environment and `--data` from the command line, which takes precedence."""
    from_environment = ctx.get_parameter_source("nats") is ParameterSource.ENVIRONMENT
    if from_environment and ctx.get_parameter_source("data") is ParameterSource.COMMANDLINE:
        return None
    return nats_url(ctx, param, value)


NATS = nats_option("A broker of your own, with credentials, instead of --data.", _unless_data)


def _tenant(ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    if value is None:
        return asyncio.run(_only_tenant(ctx.params["data"], ctx.params["nats"]))
    if not TENANT.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no tenant's name")
    return value


async def _only_tenant(data: Path, nats: str | None) -> str:
    """The tenant of these credentials, or the only one there is. Raises `click.ClickException` where there is none."""
    if nats is not None and (holder := named_in(nats)) is not None:
        return holder.tenant
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
