"""`heirloom audit …`: what happened, for people and for pipes (CONTRACT §5, §7)."""

import click

from heirloom.commands.lazily import LazyGroup

MODULES = {
    "history": ("family", "families", "revocations", "incidents", "position"),
    "questions": ("token", "as-of", "diff", "subject", "blast-radius", "activity", "search"),
    "notary": ("prove", "check-proof", "checkpoint", "notary-key"),
    "verify": ("verify",),
    "replay": ("replay",),
    "digest": ("digest",),
    "what_if": ("what-if",),
    "export": ("export",),
}
COMMANDS = {command: f"heirloom.commands.{module}" for module, commands in MODULES.items() for command in commands}


@click.group(cls=LazyGroup, modules=COMMANDS)
def audit() -> None:
    """Ask what happened, and check that the log is whole."""
