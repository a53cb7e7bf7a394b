"""Which changes of a string are mere wording, and that the list is of the code as it is."""

import ast

import pytest

from tests.mutants.groups import ROOT
from tests.mutants.listed import Listed, listed
from tests.mutants.survivors import Mutant

WORDED = Listed({}, frozenset({"a.py"}))


@pytest.mark.parametrize(
    ("was", "now", "held"),
    [
        ('raise Bad("it is bad")', 'raise Bad("XXit is badXX")', True),
        ('Error("invalid_scope", "it is bad")', 'Error("invalid_scope", "IT IS BAD")', True),
        ('Error("invalid_scope", "it is bad")', 'Error("INVALID_SCOPE", "it is bad")', False),
        ('raise Bad("it is bad")', "raise Bad(None)", False),
        ('scope.split(" ")', 'scope.split("XX XX")', False),
        ('Bad(f"{name} is bad")', 'Bad(f"{name} IS BAD")', True),
        ("Bad(f\"it is {told['error']}\")", "Bad(f\"it is {told['ERROR']}\")", False),
        ("f\"{inbox.rsplit('.', 1)[-1]}{next(ids)}\"", "f\"{inbox.rsplit('.', 1)[+1]}{next(ids)}\"", False),
        ('log.info("it is bad: %s", why)', 'log.info("XXit is bad: %sXX", why)', True),
        ('log.info("it is bad: %s", why)', 'log.info("IT IS BAD: %S", why)', False),
    ],
)
def test_wording_is_the_text_for_people(was: str, now: str, held: bool) -> None:
    """Only in the modules listed for it."""
    assert WORDED.holds(Mutant("a.py", "f", was, now)) is held
    assert not WORDED.holds(Mutant("b.py", "f", was, now))


@pytest.mark.parametrize("module", sorted({mutant.module for mutant in listed().reasons}))
def test_a_listed_mutant_is_of_lines_that_are_there(module: str) -> None:
    """In its function; otherwise the reason is about code that has gone."""
    lines = _lines_by_function((ROOT / module).read_text())
    for mutant in listed().reasons:
        if mutant.module == module:
            assert set(mutant.was.splitlines()) <= lines.get(mutant.function, set()), mutant


def _lines_by_function(code: str) -> dict[str, set[str]]:
    """The lines of each function and method, without their indentation."""
    found: dict[str, set[str]] = {}
    for node in ast.parse(code).body:
        prefix, members = (f"{node.name}.", node.body) if isinstance(node, ast.ClassDef) else ("", [node])
        for member in members:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = code.splitlines()[member.lineno - 1 : member.end_lineno]
                found[prefix + member.name] = {line.strip() for line in lines}
    return found
