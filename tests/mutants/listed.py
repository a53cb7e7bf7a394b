"""Survivors that are harmless, each with its reason (`listed.toml`)."""

import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from tests.mutants.survivors import Mutant

FILE = Path(__file__).with_name("listed.toml")

STRING, LETTER = re.compile(r'"[^"]*"'), re.compile("[A-Za-z]")
CODE = re.compile(r"\{[^{}]*\}|%[A-Za-z]")
"""The parts of a sentence that are not wording: an f-string's code, and the placeholders of `logging`."""


class Listed(NamedTuple):
    """The reason of each harmless mutant; and the modules whose strings of several words are sentences for people."""

    reasons: dict[Mutant, str]
    worded: frozenset[str]

    def holds(self, mutant: Mutant) -> bool:
        """Whether it is listed, or changes only the wording of such a sentence."""
        was, now = (STRING.sub(_unworded, line) for line in (mutant.was, mutant.now))
        return mutant in self.reasons or (mutant.module in self.worded and was == now)

    def gone(self, survivors: Collection[Mutant], modules: Collection[str]) -> list[Mutant]:
        """Listed mutants of these modules that no longer survive, or no longer exist."""
        return sorted(mutant for mutant in self.reasons if mutant.module in modules and mutant not in survivors)


def listed() -> Listed:
    """The content of the file. A mutant is identified by its function and the lines before and after the change."""
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
