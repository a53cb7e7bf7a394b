"""`heirloom up`."""

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path

import click
from rich.console import Console

from heirloom.broker import credentials, memory_limit
from heirloom.broker.credentials import Credentials
from heirloom.broker.run_file import Running, host_of
from heirloom.broker.tls import CannotSecure, required
from heirloom.cli.address_param import Address
from heirloom.cli.commands.apply import apply_seed
from heirloom.cli.options import FILE, DataDirectoryParam, nats_option
from heirloom.cli.service_connection import open_bus
from heirloom.process.event_loop import stop_requested
from heirloom.process.log_file import DEFAULT_LIMITS, LogLimits
from heirloom.seed import Seed, read_seed
from heirloom.supervisor.options import ServiceOptions
from heirloom.supervisor.preparation import CannotStart
from heirloom.supervisor.supervisor import running
from service.families.cache import DEFAULT_BYTES, MIN_BYTES
from service.replicas.book_keeper import DEFAULT_BYTES as DEFAULT_BOOK_BYTES
from service.replicas.book_keeper import DEFAULT_SUBJECTS, MIN_SUBJECTS, BookLimits
from service.replicas.broker_clock import MAX_TOLERATED_SECONDS, TOLERATED_SECONDS

INSECURE = (
    "nobody tries what strangers may do on the broker at {}; if it is open, whoever reaches it is an operator there,"
    " can ask for tokens in anybody's name and write into the log"
)


@click.command()
@click.option(
    "--data",
    type=DataDirectoryParam(),
    default=Path("heirloom-data"),
    show_default=True,
    help="Where the log, the keyring and the read model live.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4222,
    show_default=True,
    help="The embedded broker's port; 0 takes any free one.",
)
@click.option(
    "--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Where the embedded broker listens."
)
@click.option("--tls-cert", type=FILE, help="The embedded broker's certificate, PEM.")
@click.option("--tls-key", type=FILE, help="Its key.")
@click.option("--tls-ca", type=FILE, help="Every connection must show a certificate of this authority too.")
@click.option("--seed", type=FILE, help="Tenants and clients to apply at start.")
@nats_option("A broker of your own instead of the embedded one.")
@click.option(
    "--insecure", is_flag=True, help="With --nats: serve there whatever strangers may do on that broker; for a laptop."
)
@click.option(
    "--cluster",
    type=click.Choice(["1", "3"]),
    default="1",
    show_default=True,
    help="Brokers, each with its copy of the log, on PORT, PORT+1 and PORT+2; with --nats, how many yours are.",
)
@click.option("--replicas", type=click.IntRange(1, 16), default=1, show_default=True, help="Service processes.")
@click.option(
    "--notary/--no-notary",
    default=True,
    show_default=True,
    help="Sign checkpoints of the log, for `heirloom audit prove`.",
)
@click.option(
    "--metrics",
    type=Address(),
    metavar="[HOST:]PORT",
    help="Tell Prometheus metrics and health there: /metrics, /livez, /readyz. HOST is 127.0.0.1, PORT 0 any free one.",
)
@click.option(
    "--sync",
    type=click.Choice(["always", "default"]),
    default="always",
    show_default=True,
    help="When the embedded broker calls a commit stored: on the disk, or in the system's cache.",
)
@click.option(
    "--max-clock-skew",
    type=click.IntRange(2, MAX_TOLERATED_SECONDS),
    metavar="SECONDS",
    default=TOLERATED_SECONDS,
    show_default=True,
    help="How far a replica's clock may be from the broker's; one that is further off answers nothing.",
)
@click.option(
    "--log-size",
    type=click.IntRange(1, 10_000),
    metavar="MIB",
    default=DEFAULT_LIMITS.bytes >> 20,
    show_default=True,
    help="How large a file of a process's log may become; the next lines go to another one.",
)
@click.option(
    "--log-files",
    type=click.IntRange(1, 1_000),
    metavar="N",
    default=DEFAULT_LIMITS.files,
    show_default=True,
    help="How many such files are kept of each process.",
)
@click.option(
    "--cache-size",
    type=click.IntRange(MIN_BYTES >> 20, 1 << 20),
    metavar="MIB",
    default=DEFAULT_BYTES >> 20,
    show_default=True,
    help="How much of the log's newest commits each replica holds; in its memory they take about three times that.",
)
@click.option(
    "--book-subjects",
    type=click.IntRange(MIN_SUBJECTS),
    metavar="N",
    default=DEFAULT_SUBJECTS,
    show_default=True,
    help="With so many families and settings in it, a book of the log is closed, and the next one begins.",
)
@click.option(
    "--book-size",
    type=click.IntRange(MIN_BYTES >> 20, 1 << 20),
    metavar="MIB",
    default=DEFAULT_BOOK_BYTES >> 20,
    show_default=True,
    help="The size at which it is closed.",
)
@click.option(
    "--broker-memory",
    type=click.IntRange(memory_limit.MIN_BYTES >> 20, 1 << 20),
    metavar="MIB",
    show_default="half of the machine's, shared by the brokers",
    help="What each embedded broker aims to stay below. GOMEMLIMIT in the environment takes precedence.",
)
def up(  # noqa: PLR0913  # a command's options are its parameters
    data: Path,
    port: int,
    seed: Path | None,
    nats: str | None,
    insecure: bool,
    cluster: str,
    replicas: int,
    sync: str,
    notary: bool,
    metrics: tuple[str, int] | None,
    host: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    max_clock_skew: int,
    log_size: int,
    log_files: int,
    cache_size: int,
    book_subjects: int,
    book_size: int,
    broker_memory: int | None,
) -> None:
    """Run the service: broker, replicas, read model, notary.

    It prints `ready nats://HOST:PORT` when every endpoint answers. Ctrl-C and SIGTERM end it in order.
    """
    os.umask(0o077)  # only the owner may read the log, the read model and the log files
    logging.basicConfig(level=logging.WARNING, format="heirloom: %(message)s")
    logging.getLogger("heirloom").setLevel(logging.WARNING)
    plan = read_seed(seed) if seed is not None else None
    try:
        tls = required(host, tls_cert, tls_key, tls_ca)
        if tls is not None:
            tls.require_own_authority()
        options = ServiceOptions(
            data,
            port=port,
            nats=nats,
            replicas=replicas,
            sync="always" if sync == "always" else "2m",
            notary=notary,
            metrics=metrics,
            cluster=int(cluster),
            host=host,
            tls=tls,
            insecure=insecure,
            max_clock_skew=max_clock_skew,
            logs=LogLimits(log_size << 20, log_files),
            cache_bytes=cache_size << 20,
            book_limits=BookLimits(book_subjects, book_size << 20),
            broker_memory=None if broker_memory is None else broker_memory << 20,
        )
        if insecure and nats is not None:
            click.echo(f"heirloom: --insecure: {INSECURE.format(host_of(nats))}", err=True)
        asyncio.run(_up(options, plan))
    except (CannotStart, CannotSecure) as error:
        raise click.ClickException(str(error)) from error


async def _up(options: ServiceOptions, plan: Seed | None) -> None:
    stop, ready = stop_requested(), asyncio.Event()
    serving = asyncio.create_task(_serve(options, plan, stop, ready))
    waiting = asyncio.create_task(ready.wait()), asyncio.create_task(stop.wait())
    await asyncio.wait((serving, *waiting), return_when=asyncio.FIRST_COMPLETED)
    if not ready.is_set():
        serving.cancel()  # stopped while it starts, or failed
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _serve(options: ServiceOptions, plan: Seed | None, stop: asyncio.Event, ready: asyncio.Event) -> None:
    with Console(stderr=True).status("starting") as status:
        async with running(options, status.update) as where:
            status.stop()
            if plan is not None:
                await _apply(options, plan, credentials.load(options.data) if where.ours else None)
            print(f"ready {where.url.split(',')[0]}", flush=True)
            _hint(where, options.data)
            ready.set()
            await stop.wait()


async def _apply(options: ServiceOptions, plan: Seed, known: Credentials | None) -> None:
    async with open_bus(options.data, options.nats, "operator", known) as connection:
        await apply_seed(connection, plan)


def _hint(where: Running, data: Path) -> None:
    if not sys.stderr.isatty():
        return
    if where.metrics is not None:
        Console(stderr=True).print(f"[dim]Metrics and health: http://{where.metrics}/metrics, /livez, /readyz[/dim]")
    if where.ours:
        Console(stderr=True).print(
            f"[dim]A client's URL: heirloom url --data {data} --client TENANT/CLIENT_ID · Ctrl-C ends the service[/dim]"
        )
