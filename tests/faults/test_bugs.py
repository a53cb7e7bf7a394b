"""The harness detects seeded bugs: all of them in `make faults-bugs`, here one of each kind."""

from pathlib import Path
from typing import Any

import pytest

from service.endpoints import endpoint_table
from tests.faults.hunt import hunt
from tests.faults.seeded_bugs import read_model_bugs, replica_bugs
from tests.faults.seeded_bugs.bugs import BUGS

SEED = 20261121


@pytest.mark.parametrize("bug", ["no compare-and-swap", "checkpoint in its own transaction"])
def test_a_seeded_bug_is_detected(tmp_path: Path, bug: str) -> None:
    """One of a replica and one of the read model."""
    assert hunt(bug, tmp_path, SEED).violations


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_replaces_an_existing_part(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a part was renamed, the product would run without the bug."""
    replaced = []

    def put(owner: Any, name: str, value: Any) -> None:
        assert callable(value) and callable(getattr(owner, name))
        replaced.append(name)

    for module in (replica_bugs, read_model_bugs):
        monkeypatch.setattr(module, "put", put)
    before = dict(endpoint_table.ENDPOINTS)
    monkeypatch.setattr(endpoint_table, "ENDPOINTS", dict(before))
    BUGS[bug].switch_on()
    assert replaced or before != endpoint_table.ENDPOINTS
