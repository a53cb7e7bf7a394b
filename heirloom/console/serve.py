"""Composes the console, and serves it until it is stopped."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from datasette.app import Datasette
from datasette.plugins import pm

from heirloom.broker.tls import is_loopback
from heirloom.console import plugin
from heirloom.console.access_gate import AccessGate
from heirloom.console.canned_queries import QUERIES
from heirloom.console.database import INTERNAL, NAME, InternalDatabase, ReadModelDatabase, connect
from heirloom.console.login import Login
from heirloom.console.options import CannotServe, ConsoleOptions, check, is_wildcard
from heirloom.console.view_metadata import TABLES
from heirloom.process.event_loop import stop_requested

DRAIN_SECONDS = 3


class Console(NamedTuple):
    """The ASGI app that answers requests, and the function that closes it."""

    app: AccessGate
    close: Callable[[], None]


async def create(options: ConsoleOptions, token: str | None) -> Console:
    """Everything but the socket. Without a `token` there is no login. Raises `UnusableReadModel`."""
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
    datasette.remove_database(INTERNAL)
    internal = InternalDatabase(datasette)
    datasette.add_database(internal, name=INTERNAL)
    read_model = ReadModelDatabase(datasette, options.read_model, options.tenant)
    datasette.add_database(read_model, name=NAME)
    datasette.jinja_env.globals |= {"tenant": options.tenant, "has_login": token is not None}

    await datasette.invoke_startup()

    async def render(template: str, **context: Any) -> str:
        text: str = await datasette.jinja_env.get_template(template).render_async(context)
        return text

    def close() -> None:
        datasette.executor.shutdown()
        read_model.close()
        internal.close()

    names = frozenset(("localhost", "127.0.0.1", "::1") if is_loopback(options.host) else ()) | {
        name.lower() for name in (options.host, *options.names)
    }
    login = None if token is None else Login(token)
    return Console(AccessGate(datasette.app(), login, names, render, tls=options.cert is not None), close)


async def serve(options: ConsoleOptions, token: str | None, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` receives the URL at the start. Raises as `create`, and `CannotServe`."""
    check(options)
    console = await create(options, token)
    try:
        config = _config(options, console)
        with _listen(options) as listening:
            await _serve(uvicorn.Server(config), listening, lambda: ready(_url(options, listening)))
    finally:
        console.close()


async def _serve(server: uvicorn.Server, listening: socket.socket, ready: Callable[[], None]) -> None:
    stop = stop_requested()  # uvicorn raises a signal again when it has handled it; here that ends nothing
    serving = asyncio.create_task(server.serve([listening]))
    while not server.started and not serving.done():  # noqa: ASYNC110  # uvicorn tells no other way
        await asyncio.sleep(0.01)
    ready()
    await asyncio.wait((serving, asyncio.create_task(stop.wait())), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving


def _config(options: ConsoleOptions, console: Console) -> uvicorn.Config:
    config = uvicorn.Config(
        console.app,
        log_level="warning",
        access_log=False,  # URLs name people
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


def _listen(options: ConsoleOptions) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        raise CannotServe(
            f"cannot serve on {options.host} port {options.port}: {error.strerror or error}; choose another with "
            "--host or --port, 0 for any"
        ) from error


def _url(options: ConsoleOptions, listening: socket.socket) -> str:
    name = options.names[0] if is_wildcard(options.host) else options.host
    host = f"[{name}]" if ":" in name else name
    return f"{'http' if options.cert is None else 'https'}://{host}:{listening.getsockname()[1]}"
