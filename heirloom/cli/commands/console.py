"""`heirloom console`: the security team's console in a browser."""

import asyncio
import webbrowser
from pathlib import Path

import click

from events.aggregates.aggregate_names import TENANT
from heirloom.cli.options import DATA, FILE
from heirloom.console.options import CannotServe, ConsoleOptions, new_token, read_token
from heirloom.data_directory import DataDirectory
from projections.read_model import UnusableReadModel


@click.command()
@DATA
@click.option("--read-model", type=FILE, help="This read model instead, such as one made by `heirloom audit replay`.")
@click.option("--tenant", help="Show this tenant alone.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="0 takes any free one.")
@click.option("--name", "names", multiple=True, help="A further name browsers may use for it; may be repeated.")
@click.option("--tls-cert", type=FILE, help="The certificate (chain) in PEM; needed where others can reach it.")
@click.option("--tls-key", type=FILE, help="Its key.")
@click.option("--token-file", type=FILE, help="The login token is the one in this file, instead of a new one.")
@click.option("--no-login", is_flag=True, help="For everybody on this machine; on a loopback address alone.")
@click.option("--sql", is_flag=True, help="Whoever is logged in may also write SQL; it can only read.")
@click.option("--open", "browse", is_flag=True, help="Open it in a browser.")
def console(  # noqa: PLR0913  # a command's options are its parameters
    data: Path,
    read_model: Path | None,
    tenant: str | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    no_login: bool,
    sql: bool,
    browse: bool,
) -> None:
    """Look at what happened in a browser.

    A dashboard, and queries that lead from one to the next. It only reads.
    """
    if tenant is not None and not TENANT.fullmatch(tenant):
        raise click.BadParameter(f"{tenant!r} is no tenant's name", param_hint="--tenant")
    try:
        from heirloom.console.serve import serve  # it takes a while, and may not be installed
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("datasette", "uvicorn"):
            raise
        raise click.ClickException("the console needs Datasette: pip install 'heirloom-oauth[console]'") from error

    def ready(url: str) -> None:
        print(f"ready {url}", flush=True)
        if token is not None and token_file is None:
            click.echo(f"The login token is good until this ends: {token}", err=True)
        if browse:
            webbrowser.open(url)

    path = read_model or DataDirectory(data).read_model
    options = ConsoleOptions(
        path, host, port, login=not no_login, tenant=tenant, sql=sql, names=names, cert=tls_cert, key=tls_key
    )
    try:
        token = None if no_login else read_token(token_file) if token_file is not None else new_token()
        asyncio.run(serve(options, token, ready))
    except CannotServe as error:
        raise click.ClickException(str(error)) from error
    except UnusableReadModel as error:
        raise click.ClickException(f"{error}. {_way_out(read_model, data)}") from error


def _way_out(read_model: Path | None, data: Path) -> str:
    if read_model is not None:
        return "Make one with `heirloom audit replay`, or name the data directory of a `heirloom up` with --data"
    return f"`heirloom up --data {data}` builds it from the log; start it, or name another directory with --data"
