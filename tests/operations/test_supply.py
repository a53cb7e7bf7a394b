"""What is delivered is listed, and what is known of it is told as it is."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def test_the_sbom_lists_what_is_locked(tmp_path: Path) -> None:
    """Every package of the lock file with its version and hashes, in CycloneDX."""
    tool, into = Path(sys.executable).with_name("cyclonedx-py"), tmp_path / "sbom.json"
    subprocess.run(
        [tool, "requirements", "requirements.lock", "--no-validate", "-o", into],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    written = json.loads(into.read_text())
    locked = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.M)
    assert written["bomFormat"] == "CycloneDX"
    assert {(part["name"], part["version"]) for part in written["components"]} == set(locked)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0),
        (
            [
                {"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": []}]},
                {"name": "b", "skip_reason": ""},
            ],
            1,
        ),
        ([{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}], 2),
    ],
)
def test_what_is_unknown_is_not_called_clean(found: list[dict[str, Any]], status: int) -> None:
    """A vulnerability fails; a package the database does not know is something else, and not a pass."""
    assert runpy.run_path(str(ROOT / ".ci" / "audit_dependencies.py"))["verdict"](found) == status
