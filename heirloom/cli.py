"""`heirloom`: the commands of CONTRACT §7."""

from importlib import import_module

import click

from heirloom import __version__

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
"""By name: the module that defines it, under the same name."""


class _Commands(click.Group):
    """Imports a command when it is called: each needs a part of the house, and all of it takes a while."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name.replace("-", "_"))
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="heirloom")
def main() -> None:
    """OAuth 2.0 tokens whose every step is an event, and whose theft ends their family."""
