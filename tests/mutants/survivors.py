"""Runs mutmut over a group, in the group's own directory, and collects the mutants that no test detected."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

from tests.mutants.groups import ROOT, Group

DIRECTORY = ROOT / "build" / "mutants"
PACKAGES = ("events", "service", "projections", "notary", "heirloom", "bench")
NOTICED = {"killed", "timeout", "segfault"}
NOT_RUN = 255
"""pytest found no tests. mutmut calls that a timeout."""
COSTLY = ("cacheprovider", "faulthandler", "threadexception", "unraisableexception", "xdist")
"""pytest plugins that take half of a mutant's time and detect none."""
STEADY = ("--hypothesis-profile=ci",)
"""The same examples each time, without a deadline."""
TIMES_AS_LONG = 8.0
"""A test that takes this many times as long as without a fault hangs: the fault is detected."""

SHOWN_LINES = 40


class Mutant(NamedTuple):
    """A mutant that no test detected: its function, and the lines before and after the change."""

    module: str
    function: str
    was: str
    now: str


class Outcome(NamedTuple):
    """A module's mutants counted by their status, and the survivors."""

    module: str
    counts: Counter[str]
    survivors: list[Mutant]


class MutmutFailed(Exception):
    """It failed; the text is its last output."""


def run(group: Group, processes: int) -> list[Outcome]:
    """Continue where the last run ended. Raises `MutmutFailed`, also if a test fails without any mutant."""
    directory = DIRECTORY / group.name
    _prepare(directory, group)
    with (directory / "output.log").open("w") as output:
        mutmut = subprocess.Popen(
            [Path(sys.executable).with_name("mutmut"), "run", "--max-children", str(processes)],
            cwd=directory,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            failed = mutmut.wait() != 0
        finally:  # also the brokers of interrupted tests
            with contextlib.suppress(ProcessLookupError):
                os.killpg(mutmut.pid, signal.SIGKILL)
    if failed:
        raise MutmutFailed(f"{group.name}: {_last_words((directory / 'output.log').read_text())}")
    with contextlib.chdir(directory):
        return [_outcome(module) for module in group.sources()]


def _prepare(directory: Path, group: Group) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in (*PACKAGES, "tests"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(ROOT / name)
    pytest = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    mutmut = {
        "source_paths": group.sources(),
        "pytest_add_cli_args_test_selection": group.test_files(),
        "pytest_add_cli_args": [*STEADY, *(argument for plugin in COSTLY for argument in ("-p", f"no:{plugin}"))],
        "also_copy": list(PACKAGES),
        "process_isolation": "forkserver",  # so that no state of the run without faults is left
        "timeout_multiplier": TIMES_AS_LONG,
        "use_git_change_detection": False,
        "on_dependency_change": "ignore",
    }
    (directory / "pyproject.toml").write_text(_toml("tool.pytest.ini_options", pytest) + _toml("tool.mutmut", mutmut))
    _forget_what_other_tests_missed(directory, group)


def _toml(table: str, values: dict[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[{table}]", *lines, "", ""])


def _forget_what_other_tests_missed(directory: Path, group: Group) -> None:
    """Retry the survivors after a test has changed, and always those for which no test ran.

    Mutmut detects that a function has changed, but not that a test has.
    """
    files = (ROOT / path for path in group.test_files())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    marker = directory / "tests.sha256"
    changed = not marker.exists() or marker.read_text() != digest
    if changed:
        (directory / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for module in group.sources():
        meta = directory / "mutants" / f"{module}.meta"
        if meta.exists():
            content = json.loads(meta.read_text())
            for name, code in content["exit_code_by_key"].items():
                if code == NOT_RUN or (changed and _status(code) not in NOTICED):
                    content["exit_code_by_key"][name] = None
            meta.write_text(json.dumps(content))
    marker.write_text(digest)


def _status(code: int | None) -> str:
    return "not run" if code == NOT_RUN else status_by_exit_code[code]


def _last_words(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip() and not "\u2800" <= line[0] <= "\u28ff"]  # a spinner
    return "\n".join(lines[-SHOWN_LINES:])


def _outcome(module: str) -> Outcome:
    codes = json.loads(Path("mutants", f"{module}.meta").read_text())["exit_code_by_key"]
    statuses = {name: _status(code) for name, code in codes.items()}
    survivors = [_mutant(module, name) for name, status in statuses.items() if status not in NOTICED]
    return Outcome(module, Counter(statuses.values()), survivors)


def _mutant(module: str, name: str) -> Mutant:
    function, owner = orig_function_and_class_names_from_key(name)
    diff = get_diff_for_mutant(name, path=module).splitlines()[2:]
    was, now = ("\n".join(line[1:].strip() for line in diff if line.startswith(sign)) for sign in "-+")
    return Mutant(module, f"{owner}.{function}" if owner else function, was, now)
