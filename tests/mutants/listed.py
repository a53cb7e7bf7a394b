"""The survivors that were looked at and found harmless, each with its reason (`listed.toml`)."""

import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from tests.mutants.survivors import Mutant

FILE = Path(__file__).with_name("listed.toml")

STRING, LETTER = re.compile(r'"[^"]*"'), re.compile("[A-Za-z]")
CODE = re.compile(r"\{[^{}]*\}|%[A-Za-z]")
"""What stands in a sentence and is no wording: the code of an f-string, and where `logging` puts a value."""


class Listed(NamedTuple):
    """Why each is harmless; and the modules in which a string of several words is a sentence for a person."""

    reasons: dict[Mutant, str]
    worded: frozenset[str]

    def holds(self, mutant: Mutant) -> bool:
        """Whether it is listed, or changes nothing but the wording of such a sentence."""
        was, now = (STRING.sub(_unworded, line) for line in (mutant.was, mutant.now))
        return mutant in self.reasons or (mutant.module in self.worded and was == now)

    def gone(self, survivors: Collection[Mutant], modules: Collection[str]) -> list[Mutant]:
        """Those listed of these modules that do not survive any more, or are not made."""
        return sorted(mutant for mutant in self.reasons if mutant.module in modules and mutant not in survivors)


def listed() -> Listed:
    """What the file holds. A survivor is known by its function and the lines before and after, which do not move."""
    content = tomllib.loads(FILE.read_text())
    reasons: dict[Mutant, str] = {}
    worded = frozenset(content.pop("sentences")["in"])
    for module, entries in content.items():
        for entry in entries:
            if not entry["why"].strip():
                raise ValueError(f"no reason is given for {entry}")
            reasons |= {Mutant(module, entry["function"], entry["was"], now): entry["why"] for now in entry["now"]}
    return Listed(reasons, worded)


def _unworded(string: re.Match[str]) -> str:
    words = CODE.sub("", string[0])
    is_sentence = " " in words and LETTER.search(words)  # " " alone separates scopes
    return "".join(CODE.findall(string[0])) if is_sentence else string[0]
