"""What the processes write for people is bounded: in what strangers may put there, in size, and by the disk's room."""

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from heirloom.log_file import Limits
from service.journal import Journal
from tests.system.service import Service

WRITER = """
import sys
from heirloom import log_file
from service.journal import Journal
journal = Journal(log_file.log_file())
def write(count):
    for number in range(count):
        journal.decision("token", "acme", "web", str(number), 0.0)
for reserve, count in zip(sys.argv[1::2], sys.argv[2::2]):
    log_file.RESERVE = int(reserve)
    write(int(count))
print("a traceback, say", file=sys.stderr)
"""


def _written(directory: Path, limits: Limits, *counts: int) -> dict[str, list[str]]:
    """What a process leaves in its files, the newest first, when each line is written at once."""
    path = directory / "replica-1.log"
    with path.open("ab") as errors:
        subprocess.run(
            [sys.executable, "-c", WRITER, *map(str, counts)],
            env=os.environ | limits.environment() | {"HEIRLOOM_LOG": str(path)},
            stderr=errors,
            check=True,
        )
    files = sorted(directory.glob("replica-1.log*"))
    assert all(file.stat().st_size <= limits.bytes + 20 for file in files)
    return {file.name: file.read_text().splitlines() for file in files}


def _outcomes(lines: list[str]) -> list[int]:
    return [int(json.loads(line)["outcome"]) for line in lines if "outcome" in line]


def test_a_full_log_goes_on_in_another_file(tmp_path: Path) -> None:
    """A stranger wrote 16 MB in 5 s: now the oldest lines go, and nothing else is lost."""
    written = _written(tmp_path, Limits(2000, 3), 0, 100)
    assert list(written) == ["replica-1.log", "replica-1.log.1", "replica-1.log.2"]
    assert written["replica-1.log"][-1] == "a traceback, say", "standard error goes where the log goes"
    kept = [number for name in reversed(written) for number in _outcomes(written[name])]
    assert kept == list(range(100 - len(kept), 100))
    assert len(kept) > 20


def test_one_file_begins_anew(tmp_path: Path) -> None:
    """`--log-files 1`."""
    written = _written(tmp_path, Limits(2000, 1), 0, 100)
    assert list(written) == ["replica-1.log"]
    assert _outcomes(written["replica-1.log"])[-1] == 99


def test_the_last_gigabyte_is_not_for_logs(tmp_path: Path) -> None:
    """The log of tokens needs it. What was dropped is counted, and said once when there is room again."""
    (lines,) = _written(tmp_path, Limits(), 0, 1, 1 << 60, 30, 0, 2).values()
    assert [json.loads(line).get("count") for line in lines[:-1]] == [None, 30, None, None]
    assert [json.loads(line).get("outcome") for line in lines[:-1]] == ["0", None, "0", "1"]


def test_strangers_words_are_cut() -> None:
    """A tenant's name in a subject may be of 4,000 characters, and any bytes: 64 of them are logged."""
    out = io.BytesIO()
    journal = Journal(out)
    journal.decision("jwks", "x" * 4000, "y" * 4000, "ok", 0.0)
    record: dict[str, Any] = {"msg": "odd \udcff", "subject": "audit." + "\udcff" * 4000, "count": 1 << 40}
    journal.emit(logging.makeLogRecord(record))
    decision, line = map(json.loads, out.getvalue().splitlines())
    assert (decision["tenant"], decision["client"]) == ("x" * 64, "y" * 64)
    assert (line["subject"], line["count"], line["event"]) == ("audit." + "?" * 58, 1 << 40, "odd ?")


def test_the_broker_keeps_its_log_within_bounds(service: Service) -> None:
    """It does so itself, in the file where its first words are."""
    configuration, limits = (service.data / "nats.conf").read_text(), Limits()
    for line in limits.configuration(service.data / "nats.log").splitlines():
        assert line in configuration
    assert "Server is ready" in (service.data / "nats.log").read_text()
