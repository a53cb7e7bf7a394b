"""`python -m tests.mutants [GROUP|MODULE ...]`: exits with 1 for an undetected fault that is not listed."""

import os
import sys

from rich.console import Console
from rich.table import Table

from tests.mutants.groups import GROUPS, Group
from tests.mutants.listed import FILE, Listed, listed
from tests.mutants.survivors import Mutant, MutmutFailed, Outcome, run


def main(wanted: list[str]) -> int:
    """Print a table by module, then unlisted survivors, and listed mutants that no longer survive."""
    console, known = Console(), listed()
    outcomes: list[Outcome] = []
    for group in _groups(wanted):
        with console.status(f"{group.name}: {', '.join(group.modules)}"):
            outcomes += run(group, os.cpu_count() or 1)
    console.print(_table(outcomes, known))
    survivors = [mutant for outcome in outcomes for mutant in outcome.survivors]
    unlisted = [mutant for mutant in survivors if not known.holds(mutant)]
    for mutant in unlisted:
        console.print(f"survives: {_shown(mutant)}", markup=False, highlight=False)
    for mutant in known.gone(set(survivors), {outcome.module for outcome in outcomes}):
        console.print(f"listed, and survives no more: {_shown(mutant)}", markup=False, highlight=False)
    if unlisted:
        console.print(f"{len(unlisted)} faults go unnoticed: test them, or list them in {FILE.name} with the reason")
    return 1 if unlisted else 0


def _groups(wanted: list[str]) -> list[Group]:
    found = [
        group for group in GROUPS if not wanted or group.name in wanted or not set(wanted).isdisjoint(group.sources())
    ]
    unknown = set(wanted) - {name for group in found for name in (group.name, *group.sources())}
    if unknown:
        groups = ", ".join(group.name for group in GROUPS)
        sys.exit(f"nothing is known of {', '.join(sorted(unknown))}; there are {groups}, and the modules in them")
    return found


def _table(outcomes: list[Outcome], known: Listed) -> Table:
    """The counts by module. What timed out counts as killed: it waits without an end, or the machine was busy."""
    table = Table("module", box=None)
    for column in ("mutants", "killed", "timed out", "listed", "unlisted", "share"):
        table.add_column(column, justify="right")
    for outcome in outcomes:
        harmless = sum(known.holds(mutant) for mutant in outcome.survivors)
        mutants, left = outcome.counts.total(), len(outcome.survivors) - harmless
        killed, timed_out = mutants - len(outcome.survivors), outcome.counts["timeout"]
        share = killed / (killed + left) if killed + left else 1.0
        table.add_row(
            outcome.module, *(f"{count:,}" for count in (mutants, killed, timed_out, harmless, left)), f"{share:.1%}"
        )
    return table


def _shown(mutant: Mutant) -> str:
    lines = [f"  - {line}" for line in mutant.was.splitlines()] + [f"  + {line}" for line in mutant.now.splitlines()]
    return "\n".join([f"{mutant.module} {mutant.function}", *lines])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MutmutFailed as failure:
        sys.exit(f"the tests do not pass, or mutmut cannot run them. {failure}")
