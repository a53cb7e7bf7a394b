"""`heirloom keyring`: the service's own secrets, shown only by their ids."""

from pathlib import Path

import click

from heirloom.cli.options import DATA
from heirloom.data_directory import DataDirectory
from service.keys import keyring as keyrings
from service.keys.keyring import KeyringError


@click.group()
def keyring() -> None:
    """The secrets every token and signing key is computed from."""


@keyring.command()
@DATA
def add(data: Path) -> None:
    """Add a fresh secret. Tenants use it from their next `heirloom admin key rotate` on; older ones stay valid."""
    path = DataDirectory(data).keyring
    try:
        newest = keyrings.add(path)
    except KeyringError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"secret {newest} is in {path}; back it up, then rotate with --use mac and --use sig")
