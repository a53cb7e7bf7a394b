"""The console put together, and served until it is told to stop."""

import asyncio
import ipaddress
import secrets
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from datasette.app import Datasette
from datasette.plugins import pm

from heirloom.console import plugin
from heirloom.console.database import NAME, ReadModelDatabase, connect
from heirloom.console.gate import Gate
from heirloom.console.login import Login
from heirloom.console.queries import QUERIES
from heirloom.console.tables import TABLES
from heirloom.process import stop_requested

DRAIN_SECONDS = 3
MIN_TOKEN = 22
"""Characters of base64: 128 bits."""


class CannotServe(Exception):
    """One line for a person: what is in the way, and what to do."""


class Options(NamedTuple):
    """`names` are further names that browsers may ask for; `sql` lets who is in write queries of their own."""

    read_model: Path
    host: str = "127.0.0.1"
    port: int = 8001
    login: bool = True
    tenant: str | None = None
    sql: bool = False
    names: tuple[str, ...] = ()
    cert: Path | None = None
    key: Path | None = None


class Console(NamedTuple):
    """What answers requests (ASGI), and how to end it."""

    app: Gate
    close: Callable[[], None]


def check(options: Options) -> None:
    """Raises `CannotServe` for what would leave the console open to more than was meant."""
    loopback = is_loopback(options.host)
    tls = options.cert is not None
    if (options.cert is None) != (options.key is None):
        raise CannotServe("a certificate needs its key: give both --tls-cert and --tls-key")
    if not options.login and not loopback:
        raise CannotServe(f"{options.host} can be reached by others: --no-login is for a loopback address alone")
    if not loopback and not tls:
        raise CannotServe(
            f"{options.host} can be reached by others: give --tls-cert and --tls-key, or serve on 127.0.0.1 behind a "
            "proxy that speaks TLS (with --name its name)"
        )
    if _is_wildcard(options.host) and not options.names:
        raise CannotServe(f"name with --name what people type to reach {options.host}, as in --name console.example")
    if options.sql and not options.login:
        raise CannotServe("--sql needs the login")
    if options.sql and options.tenant is not None:
        raise CannotServe("--sql could ask for every tenant's rows: leave out --sql or --tenant")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def create(options: Options, token: str | None) -> Console:
    """Everything but the socket. No `token`: no login. Raises `Unusable` where there is no read model."""
    connect(options.read_model, options.tenant).close()
    if not pm.has_plugin(plugin.__name__):
        pm.register(plugin, plugin.__name__)
    datasette = Datasette(
        template_dir=str(Path(__file__).parent / "templates"),
        metadata={"title": "Heirloom", "databases": {NAME: {"tables": TABLES, "queries": QUERIES}}},
        settings={"default_allow_sql": options.sql, "allow_download": False, "suggest_facets": False},
        cache_headers=False,
    )
    datasette.remove_database("_memory")
    read_model = ReadModelDatabase(datasette, options.read_model, options.tenant)
    datasette.add_database(read_model, name=NAME)
    datasette.jinja_env.globals |= {"tenant": options.tenant, "has_login": token is not None}

    async def render(template: str, **context: Any) -> str:
        text: str = await datasette.jinja_env.get_template(template).render_async(context)
        return text

    def close() -> None:
        datasette.executor.shutdown()
        read_model.close()

    names = frozenset(("localhost", "127.0.0.1", "::1") if is_loopback(options.host) else ()) | {
        name.lower() for name in (options.host, *options.names)
    }
    login = None if token is None else Login(token)
    return Console(Gate(datasette.app(), login, names, render, tls=options.cert is not None), close)


async def serve(options: Options, token: str | None, ready: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT; tells `ready` the URL once it answers. Raises `CannotServe`, `Unusable`."""
    check(options)
    console = create(options, token)
    try:
        listening = _listen(options)
        server = uvicorn.Server(_config(options, console))
        stop = stop_requested()  # uvicorn hands a signal on when it is done with it; here that ends nothing
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started and not serving.done():  # noqa: ASYNC110  # uvicorn tells no other way
            await asyncio.sleep(0.01)
        ready(_url(options, listening))
        await asyncio.wait((serving, asyncio.create_task(stop.wait())), return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        console.close()


def new_token() -> str:
    """256 bits."""
    return secrets.token_urlsafe(32)


def read_token(path: Path) -> str:
    """The login token kept in a file. Raises `CannotServe` where it could be guessed or read by others."""
    try:
        token, mode = path.read_text().strip(), path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise CannotServe(f"cannot read the login token in {path}: {type(error).__name__}") from error
    if mode & 0o077:
        raise CannotServe(f"{path} can be read by others: chmod 600 {path}")
    if len(token) < MIN_TOKEN:
        raise CannotServe(f"the login token in {path} is short enough to be guessed: openssl rand -hex 32 > {path}")
    return token


def _config(options: Options, console: Console) -> uvicorn.Config:
    config = uvicorn.Config(
        console.app,
        log_level="warning",
        access_log=False,  # addresses name people
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_certfile=options.cert,
        ssl_keyfile=options.key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise CannotServe(f"the certificate cannot be used: {error}") from error
    return config


def _listen(options: Options) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise CannotServe(
            f"cannot serve on {options.host} port {options.port}: {error.strerror or error}; choose another with "
            "--host or --port, 0 for any"
        ) from error
    return listening


def _url(options: Options, listening: socket.socket) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"{'http' if options.cert is None else 'https'}://{host}:{listening.getsockname()[1]}"


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
