"""The distribution: alone in an environment, and typed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "client"


def test_it_imports_nothing_of_ours() -> None:
    """With the client's folder alone on the path, and with the packages that it names."""
    program = "import sys, heirloom_client; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd="/", env={"PYTHONPATH": str(CLIENT)}, capture_output=True, check=True
    ).stdout.split()
    ours = {b"events", b"service", b"projections", b"notary", b"heirloom", b"faststream"}
    assert not ours & set(loaded)


def test_its_dependencies_are_the_service_s() -> None:
    """Three, each within what the service itself pins."""
    ours, its = (
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
        for folder in (CLIENT.parent, CLIENT)
    )
    assert {re.split(r"[>=<]", each)[0] for each in its} == {"nats-py", "msgspec", "joserfc"}
    assert set(its) <= set(ours)


def test_code_that_uses_it_is_typed(tmp_path: Path) -> None:
    """`mypy --strict` finds its types: the examples have them."""
    programs = map(str, sorted((CLIENT / "examples").glob("*.py")))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *programs]
    checked = subprocess.run(command, cwd=tmp_path, env={"MYPYPATH": str(CLIENT)}, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
