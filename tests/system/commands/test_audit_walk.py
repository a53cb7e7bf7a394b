"""What docs/audit.md shows is what happens."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.system.service import without_waiting

WALK = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
NAMES = r"""
    \d{4}-\d\d-\d\d[ T]\d\d:\d\d(?:\:\d\d\.\d+Z)?   # a time
    | (?<![\w-])[\w-]{43}(?![\w-])                 # the digest of the commit before
    | \b[0-9A-Za-z]{22}\b                           # a family, a commit, a jti
    | \b[0-9a-f]{64}\b                              # a digest
    | \bheirloom/[0-9a-f]{16}\b                     # a notary
    | 127\.0\.0\.1:\d+
"""
SPANS = r"""
    \b\d+\.\d+\b                                  # seconds
    | \b(?:29\d|30[0-2]|120959\d|1209600)\b        # of a token's life left: `exp` is rounded up
    | \b\d+\ checkpoints?\ agrees?\b                # one for each time that the notary found something new
"""
NAMED = re.compile(NAMES, re.VERBOSE)
"""What is another thing at every walk, and the same one throughout it."""
VARIES = re.compile(f"{NAMES} | {SPANS}", re.VERBOSE)
PATIENCE_SECONDS = 20


class Step(NamedTuple):
    """A command and the lines it is said to print."""

    command: str
    shown: list[str]


def steps() -> list[Step]:
    """Of all console blocks, in order."""
    found: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", WALK, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], []))
            else:
                found[-1].shown.append(line)
    return found


class Shell:
    """Runs the walk in a directory of its own, as a newcomer would."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "132",
            "NO_COLOR": "1",
        }
        self._here: dict[str, str] = {}
        self.background: subprocess.Popen[str] | None = None

    def follow(self, step: Step) -> None:
        """Run it, and once more while what it prints is still on its way: a checkpoint is signed after its commits."""
        command = NAMED.sub(lambda match: self._here.get(match[0], match[0]), step.command)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            printed = self._run(command)
            if self._as_shown(step.shown, printed):
                return
            writes = "--into" in command or command.endswith("&")
            assert not writes and time.monotonic() < deadline, "\n".join(["", f"$ {command}", *printed])

    def _run(self, command: str) -> list[str]:
        if command.endswith("&"):
            self.background = subprocess.Popen(
                ["bash", "-c", f"exec {command.removesuffix('&')}"],
                cwd=self._directory,
                env=self._environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self.background.stdout is not None
            return [self.background.stdout.readline()]
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return [line for line in without_waiting(done.stdout).splitlines() if line.strip()]

    def _as_shown(self, shown: list[str], printed: list[str]) -> bool:
        """Equal but for what varies; whatever is shown twice is printed twice."""
        shown = [line for line in shown if line.strip()]
        if [_fixed(line) for line in shown] != [_fixed(line) for line in printed]:
            return False
        here = dict(self._here)
        for said, is_so in zip(NAMED.findall("\n".join(shown)), NAMED.findall("\n".join(printed)), strict=True):
            if here.setdefault(said, is_so) != is_so:
                return False
        self._here = here
        return True


def _fixed(line: str) -> str:
    return " ".join(VARIES.sub("…", line).split())


def test_the_walk(tmp_path: Path) -> None:
    """Every command, in order, on the demo's log; each prints what is shown."""
    walk = steps()
    assert len(walk) >= 25
    shell = Shell(tmp_path)
    try:
        for step in walk:
            shell.follow(step)
    finally:
        if shell.background is not None:
            shell.background.send_signal(signal.SIGTERM)
            shell.background.communicate(timeout=20)
    assert shell.background is not None
    assert shell.background.returncode == 0
