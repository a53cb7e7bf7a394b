"""The harness catches what it is there to catch. All seeded bugs: `make faults-bugs`; here one of each kind."""

from pathlib import Path

import pytest

from tests.faults.hunt import hunt
from tests.faults.seeded_bugs.bugs import BUGS

SEED = 20261121


@pytest.mark.parametrize("bug", ["no compare-and-swap", "checkpoint in its own transaction"])
def test_a_seeded_bug_is_caught(tmp_path: Path, bug: str) -> None:
    """A broken replica, and a broken projector."""
    assert hunt(bug, tmp_path, SEED).violations


def test_there_are_bugs_enough() -> None:
    """At least twelve ways to break a promise, in three kinds of process."""
    assert len(BUGS) >= 12
    assert {bug.process for bug in BUGS.values()} == {"replica", "projector", "writer"}
