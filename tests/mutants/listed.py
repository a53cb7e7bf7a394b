"""The survivors that were looked at and found harmless, each with its reason (`listed.toml`)."""

import tomllib
from collections.abc import Collection
from pathlib import Path

from tests.mutants.survivors import Mutant

FILE = Path(__file__).with_name("listed.toml")


def listed() -> dict[Mutant, str]:
    """Why each is harmless. A survivor is known by its function and the lines before and after, which do not move."""
    found: dict[Mutant, str] = {}
    for module, entries in tomllib.loads(FILE.read_text()).items():
        for entry in entries:
            for now in entry["now"]:
                mutant = Mutant(module, entry["in"], entry["was"], now)
                if not entry["why"].strip():
                    raise ValueError(f"no reason is given for {mutant}")
                found[mutant] = entry["why"]
    return found


def gone(known: Collection[Mutant], survivors: Collection[Mutant], modules: Collection[str]) -> list[Mutant]:
    """Those listed of these modules that do not survive any more, or are not made."""
    return sorted(mutant for mutant in known if mutant.module in modules and mutant not in survivors)
