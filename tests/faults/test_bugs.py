"""The harness catches what it is there to catch. All seeded bugs: `make faults-bugs`; here one of each kind."""

from pathlib import Path
from typing import Any

import pytest

from service import accounts
from tests.faults.hunt import hunt
from tests.faults.seeded_bugs import read_model_bugs, replica_bugs
from tests.faults.seeded_bugs.bugs import BUGS

SEED = 20261121


@pytest.mark.parametrize("bug", ["no compare-and-swap", "checkpoint in its own transaction"])
def test_a_seeded_bug_is_caught(tmp_path: Path, bug: str) -> None:
    """A broken replica, and a broken projector."""
    assert hunt(bug, tmp_path, SEED).violations


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_replaces_a_part_of_the_product(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it replaces is there: with a part that was renamed meanwhile, the product would run without the bug."""
    replaced = []

    def put(owner: Any, name: str, value: Any) -> None:
        assert callable(value) and callable(getattr(owner, name))
        replaced.append(name)

    for module in (replica_bugs, read_model_bugs):
        monkeypatch.setattr(module, "put", put)
    before = dict(accounts.ENDPOINTS)
    monkeypatch.setattr(accounts, "ENDPOINTS", dict(before))
    BUGS[bug].switch_on()
    assert replaced or before != accounts.ENDPOINTS
