"""`heirloom broker-config`: everything a broker of your own needs to work like the embedded one."""

from pathlib import Path

import click

from events.files import write_private
from heirloom import credentials, nats_server
from heirloom.brokers import Node, cluster_configuration
from heirloom.commands.address import Address
from heirloom.commands.options import DATA
from heirloom.up import CannotStart, locked, prepare
from service.keyring import KeyringError

ROUTES_PORT = 6222


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
@click.option("--store", type=click.Path(path_type=Path), help="Where the broker keeps the log; otherwise in --data.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME",
    help="For a cluster, once for each broker: the name under which the others reach it. They listen to them on 6222.",
)
def broker_config(data: Path, listen: tuple[str, int], store: Path | None, nodes: tuple[str, ...]) -> None:
    """Configure a nats-server that you run yourself.

    Makes keyring, credentials and nats.conf in the data directory; what exists of the first two is kept. Then start it
    with `nats-server --config DATA/nats.conf` and the service with `heirloom up --nats nats://HOST:PORT`. A cluster's
    brokers have NAME.conf each; name them all to `heirloom up`, with commas between, and say --cluster 3.
    """
    if len(nodes) not in (0, 3) or len(set(nodes)) < len(nodes):
        raise click.UsageError("a cluster has three brokers: give --node three times, with different names")
    try:
        prepare(data.resolve())
        with locked(data.resolve()):  # a running service starts its broker again with what is written here
            _configure(data, listen, store or data.resolve() / "jetstream", nodes)
    except (CannotStart, KeyringError) as error:
        raise click.ClickException(str(error)) from error


def _configure(data: Path, listen: tuple[str, int], log: Path, nodes: tuple[str, ...]) -> None:
    known = credentials.ensure(data)
    if not nodes:
        _write(data / "nats.conf", nats_server.configuration(_joined(*listen), log, known))
        return
    here, routes = _joined(*listen), _joined(listen[0], ROUTES_PORT)
    members = [Node(name, here, routes, f"{name}:{ROUTES_PORT}") for name in nodes]
    for node in members:
        others = [other for other in members if other is not node]
        _write(data / f"{node.name}.conf", cluster_configuration(node, others, log, known))


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _write(config: Path, text: str) -> None:
    config.unlink(missing_ok=True)
    write_private(config, text.encode())
    click.echo(f"{config} is ready")
