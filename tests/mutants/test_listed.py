"""Which changes of a string are mere wording."""

import pytest

from tests.mutants.listed import Listed
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
