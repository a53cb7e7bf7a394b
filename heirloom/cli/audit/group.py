"""`heirloom audit …`: the log's events, for people and for pipes (contract §5, §7)."""

import click

from heirloom.cli.lazy_group import LazyGroup

MODULES = {
    "lists": ("family", "families", "revocations", "incidents", "position"),
    "point_queries": ("token", "as-of", "diff", "subject", "blast-radius", "activity", "search"),
    "proofs": ("prove", "check-proof", "checkpoint", "notary-key"),
    "verify": ("verify",),
    "replay": ("replay",),
    "digest": ("digest",),
    "what_if": ("what-if",),
    "export": ("export",),
}
COMMANDS = {command: f"heirloom.cli.audit.{module}" for module, commands in MODULES.items() for command in commands}


@click.group(cls=LazyGroup, modules=COMMANDS)
def audit() -> None:
    """Ask what happened, and check that the log is whole."""
