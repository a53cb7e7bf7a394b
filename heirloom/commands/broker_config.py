"""`heirloom broker-config`: everything a broker of your own needs to work like the embedded one."""

from pathlib import Path

import click

from heirloom import credentials, nats_server
from heirloom.commands.options import DATA
from heirloom.up import CannotStart, prepare
from service.keyring import KeyringError, write_private


@click.command("broker-config")
@DATA
@click.option("--listen", default="127.0.0.1:4222", show_default=True, help="Where the broker listens.")
@click.option("--store", type=click.Path(path_type=Path), help="Where the broker keeps the log [default: in --data].")
def broker_config(data: Path, listen: str, store: Path | None) -> None:
    """Make keyring, credentials and nats.conf in the data directory, for a nats-server you run yourself.

    Then start it with `nats-server --config DATA/nats.conf` and the service with `heirloom up --nats nats://HOST:PORT`.
    What exists already is kept.
    """
    try:
        prepare(data.resolve())
        known = credentials.ensure(data)
    except (CannotStart, KeyringError) as error:
        raise click.ClickException(str(error)) from error
    config = data / "nats.conf"
    config.unlink(missing_ok=True)
    text = nats_server.configuration(listen, store or data.resolve() / "jetstream", known)
    write_private(config, text.encode())
    click.echo(f"{config} is ready")
