"""`heirloom`: the commands of CONTRACT §7."""

import click

from heirloom import __version__
from heirloom.commands.lazily import LazyGroup

COMMANDS = {
    "up": "heirloom.commands.up",
    "url": "heirloom.commands.url",
    "apply": "heirloom.commands.apply",
    "admin": "heirloom.commands.admin",
    "audit": "heirloom.commands.audit",
    "console": "heirloom.commands.console",
    "broker-config": "heirloom.commands.broker_config",
    "keyring": "heirloom.commands.keyring",
    "backup": "heirloom.commands.backup",
    "restore": "heirloom.commands.backup",
    "demo": "heirloom.commands.demo",
}


@click.group(cls=LazyGroup, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="heirloom")
def main() -> None:
    """OAuth 2.0 tokens whose every step is an event, and whose theft ends their family."""
