"""`heirloom`: the commands of CONTRACT §7."""

import click

from heirloom import __version__
from heirloom.commands.admin import admin
from heirloom.commands.apply import apply
from heirloom.commands.audit import audit
from heirloom.commands.backup import backup, restore
from heirloom.commands.broker_config import broker_config
from heirloom.commands.console import console
from heirloom.commands.demo import demo
from heirloom.commands.keyring import keyring
from heirloom.commands.up import up
from heirloom.commands.url import url


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="heirloom")
def main() -> None:
    """OAuth 2.0 tokens whose every step is an event, and whose theft ends their family."""


for command in (up, url, apply, admin, audit, console, broker_config, keyring, backup, restore, demo):
    main.add_command(command)
