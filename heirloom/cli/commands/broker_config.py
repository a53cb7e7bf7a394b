"""`heirloom broker-config`: everything a broker of your own needs to work like the embedded one."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from events import files
from heirloom.broker import credentials, nats_server
from heirloom.broker.cluster import Node, cluster_configuration
from heirloom.broker.run_file import address
from heirloom.broker.tls import CannotSecure, Tls, required
from heirloom.cli.address_param import Address
from heirloom.cli.options import DATA, FILE
from heirloom.cli.tables import print_text
from heirloom.data_directory import DataDirectory
from heirloom.supervisor.preparation import CannotStart, locked, prepare
from service.keys.keyring import KeyringError

ROUTES_PORT = 6222
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
OTHERWISE = "--insecure inside a private network"


@click.command("broker-config")
@DATA
@click.option(
    "--listen",
    type=Address(),
    metavar="[HOST:]PORT",
    default="127.0.0.1:4222",
    show_default=True,
    help="Where the broker listens.",
)
@click.option("--tls-cert", type=FILE, help="The brokers' certificate, PEM; routes between a cluster's use it too.")
@click.option("--tls-key", type=FILE, help="Its key.")
@click.option("--tls-ca", type=FILE, help="Every connection must show a certificate of this authority too.")
@click.option("--insecure", is_flag=True, help="Without TLS on an address that others reach: inside a private network.")
@click.option(
    "--monitor",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Serve nats-server's monitoring, for a health check, on this port of the loopback interface alone.",
)
@click.option("--store", type=click.Path(path_type=Path), help="Where the broker keeps the log; otherwise in --data.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME",
    help="For a cluster, once for each broker: the name under which the others reach it. They listen to them on 6222.",
)
def broker_config(  # noqa: PLR0913  # a command's options are its parameters
    data: Path,
    listen: tuple[str, int],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    insecure: bool,
    monitor: int | None,
    store: Path | None,
    nodes: tuple[str, ...],
) -> None:
    """Configure a nats-server that you run yourself.

    Makes keyring, credentials and nats.conf in the data directory; what exists of the first two is kept. Then start it
    with `nats-server --config DATA/nats.conf` and the service with `heirloom up --nats nats://HOST:PORT`. A cluster's
    brokers have NAME.conf each; name them all to `heirloom up`, with commas between, and say --cluster 3.
    """
    if len(nodes) not in (0, 3) or len(set(nodes)) < len(nodes):
        raise click.UsageError("a cluster has three brokers: give --node three times, with different names")
    if strange := [name for name in nodes if not HOST_NAME.fullmatch(name)]:
        raise click.UsageError(f"--node {strange[0]!r} is not the name of a host")
    try:
        tls = None if insecure else required(listen[0], tls_cert, tls_key, tls_ca, OTHERWISE)
        directory = DataDirectory(data.resolve())
        prepare(directory)
        with locked(directory):  # a running service restarts its broker with what is written here
            for name, text in _configured(data, listen, store or directory.broker.store, nodes, tls):
                _write(data / f"{name}.conf", text + (f'http: "127.0.0.1:{monitor}"\n' if monitor else ""))
    except (CannotStart, CannotSecure, KeyringError) as error:
        raise click.ClickException(str(error)) from error


def _configured(
    data: Path, listen: tuple[str, int], log: Path, nodes: tuple[str, ...], tls: Tls | None
) -> Iterator[tuple[str, str]]:
    """Each broker's name and configuration."""
    known = credentials.ensure(data)
    if not nodes:
        yield "nats", nats_server.configuration(address(*listen), log, known, tls=tls)
        return
    here, routes = address(*listen), address(listen[0], ROUTES_PORT)
    members = [Node(name, here, routes, f"{name}:{ROUTES_PORT}") for name in nodes]
    for node in members:
        others = [other for other in members if other is not node]
        text = cluster_configuration(node, others, log, known, tls=tls)
        yield node.name, text if tls is None else text.replace(*_routes_by(tls))


def _routes_by(tls: Tls) -> tuple[str, str]:
    """TLS for the routes, which carry the brokers' whole content over the network."""
    return "  no_advertise: true\n", f"  no_advertise: true\n  {tls.configuration()}"


def _write(config: Path, text: str) -> None:
    files.replace(config, text.encode())
    print_text(f"{config} is ready")
