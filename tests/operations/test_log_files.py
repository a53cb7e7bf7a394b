"""Log files are bounded: what strangers can put into them, their size, and the space they leave on the disk."""

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from heirloom.broker.broker_log import LINES_A_SECOND, BrokerLog
from heirloom.data_directory import DataDirectory
from heirloom.process import log_file
from heirloom.process.log_file import LogLimits
from heirloom.supervisor.preparation import prepare
from service.json_log import JsonLog
from tests.system.service import PATIENCE_SECONDS, Service, running

WRITER = """
import sys
from heirloom.process import log_file
from service.json_log import JsonLog
json_log = JsonLog(log_file.log_file())
def write(count):
    for number in range(count):
        json_log.decision("token", "acme", "web", str(number), 0.0)
for reserve, count in zip(sys.argv[1::2], sys.argv[2::2]):
    log_file.RESERVE = int(reserve)
    write(int(count))
print("a traceback, say", file=sys.stderr)
"""


def _written(directory: Path, limits: LogLimits, *counts: int) -> dict[str, list[str]]:
    """The lines of a process's log files, the newest first; pairs of a reserve and a number of lines are written."""
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


def test_a_full_log_is_rotated(tmp_path: Path) -> None:
    """A stranger wrote 16 MB in 5 s: only the oldest lines are dropped."""
    written = _written(tmp_path, LogLimits(2000, 3), 0, 100)
    assert list(written) == ["replica-1.log", "replica-1.log.1", "replica-1.log.2"]
    assert written["replica-1.log"][-1] == "a traceback, say", "standard error goes to the newest file"
    kept = [number for name in reversed(written) for number in _outcomes(written[name])]
    assert kept == list(range(100 - len(kept), 100))
    assert len(kept) > 20


def test_a_single_log_file_is_restarted(tmp_path: Path) -> None:
    """With `--log-files 1`."""
    written = _written(tmp_path, LogLimits(2000, 1), 0, 100)
    assert list(written) == ["replica-1.log"]
    assert _outcomes(written["replica-1.log"])[-1] == 99


def test_logs_leave_the_last_gigabyte_free(tmp_path: Path) -> None:
    """The log of tokens needs it. Dropped lines are counted, and the count is logged once when there is room."""
    (lines,) = _written(tmp_path, LogLimits(), 0, 1, 1 << 60, 30, 0, 2).values()
    assert [json.loads(line).get("count") for line in lines[:-1]] == [None, 30, None, None]
    assert [json.loads(line).get("outcome") for line in lines[:-1]] == ["0", None, "0", "1"]


def test_strangers_text_is_truncated() -> None:
    """A tenant in a subject may have 4,000 characters of any bytes: 64 are logged."""
    out = io.BytesIO()
    json_log = JsonLog(out)
    json_log.decision("jwks", "x" * 4000, "y" * 4000, "ok", 0.0)
    record: dict[str, Any] = {"msg": "odd \udcff", "subject": "audit." + "\udcff" * 4000, "count": 1 << 40}
    json_log.emit(logging.makeLogRecord(record))
    decision, line = map(json.loads, out.getvalue().splitlines())
    assert (decision["tenant"], decision["client"]) == ("x" * 64, "y" * 64)
    assert (line["subject"], line["count"], line["event"]) == ("audit." + "?" * 58, 1 << 40, "odd ?")


BY = (
    b'[1] 2026/11/29 18:29:29.333911 [ERR] 127.0.0.1:54216 - cid:6 - "v1:go:%b" - "%b" - Publish Violation'
    b' - Subject "%b"\n'
)


def _broker_says(directory: Path, *said: bytes) -> list[str]:
    """Lines of the broker's log file after it printed these parts."""

    async def record() -> None:
        stream = asyncio.StreamReader()
        for part in said:
            stream.feed_data(part)
        stream.feed_eof()
        await BrokerLog(directory / "nats.log", LogLimits()).record(stream)

    asyncio.run(record())
    return (directory / "nats.log").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        (b"web", b"L" * 3900),
        (b"n" * 3900, b"x"),
        (b'n\\" - \\"HEIRLOOM/x\\" ' * 300, b"x"),
        (b"\\x01" * 1000, b"\\" * 20_000),
        (b"web", b"x \xc3\xa9" * 1000),
    ],
)
def test_strangers_text_in_the_brokers_log_is_truncated(tmp_path: Path, name: bytes, subject: bytes) -> None:
    """17,600 subjects of 3,900 bytes in four seconds wrote 67 MB: a stranger's words have 64 characters at most."""
    whole = BY % (name, b"RESOURCES/user:resource", subject)
    (line,) = _broker_says(tmp_path, whole[:1000], whole[1000:])
    assert line.startswith("[1] 2026/11/29 18:29:29.333911 [ERR] 127.0.0.1:54216 - cid:6 - ")
    assert len(line.encode()) < 800 and "RESOURCES/user:resource" in line
    assert "L" * 65 not in line and "n" * 65 not in line


def test_a_subscription_id_is_truncated(tmp_path: Path) -> None:
    """It is the only text of a stranger's that the broker does not quote."""
    line = BY.replace(b"%b", b"x").replace(b"\n", b", SID " + b"7" * 4000 + b"\n")
    (said,) = _broker_says(tmp_path, line)
    assert said.endswith(", SID " + "7" * 64 + "…")


def test_strangers_cannot_flood_the_brokers_log(tmp_path: Path) -> None:
    """So many of their lines a second, the rest counted; lines about the broker and our connections are all kept."""
    own, ready = BY % (b"heirloom service", b"HEIRLOOM/nkey:U", b"tokens.x"), b"[1] 2026/11/29 [INF] Server is ready\n"
    forged = BY % (b'x\\" - \\"HEIRLOOM/x', b"USERS/user:a", b'\\"HEIRLOOM/')
    lines = _broker_says(tmp_path, ready, forged * 500, own * 50, forged * 500, ready)
    assert len([line for line in lines if line.endswith("Server is ready")]) == 2
    assert len([line for line in lines if "heirloom service" in line]) == 50
    kept = [line for line in lines if "USERS/user:a" in line]
    assert LINES_A_SECOND <= len(kept) <= 3 * LINES_A_SECOND, "within one to three seconds, on a slow machine"
    counted = [json.loads(line)["count"] for line in lines if line.startswith("{")]
    assert sum(counted) + len(kept) == 1000


def test_the_brokers_own_lines_are_written_to_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk watch reads them there; strangers' lines are dropped."""
    monkeypatch.setattr(log_file, "RESERVE", 1 << 60)
    full = b"[1] 2026/11/29 [ERR] JetStream: write a.blk: no space left on device\n"
    assert _broker_says(tmp_path, BY % (b"x", b"USERS/a", b"y"), full)[-1].endswith("no space left on device")


def test_up_bounds_all_logs(tmp_path: Path) -> None:
    """`--log-size 1 --log-files 2`, with files that are nearly full, and a flood of forbidden subjects."""
    data = tmp_path / "data"
    prepare(DataDirectory(data))
    full = b"x" * ((1 << 20) - 60) + b"\n"
    for name in ("replica-1.log", "nats.log", "replica-1.log.1"):
        (data / name).write_bytes(full if not name.endswith("1") else b"the oldest\n")
        (data / name).chmod(0o600)
    with running(data, "--log-size", "1", "--log-files", "2", "--no-notary") as service:
        for name in ("replica-1.log", "nats.log"):
            before = data / f"{name}.1"
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not before.exists() or not before.read_bytes().startswith(b"xxx"):
                assert time.monotonic() < deadline, "the full file was not rotated"
                time.sleep(0.05)  # the process may write a moment after it is ready
            assert before.stat().st_size <= 1 << 20
            assert not (data / f"{name}.2").exists()
        assert "Server is ready" in (data / "nats.log").read_text()
        asyncio.run(_flood(service))
    said = (data / "nats.log").read_text()
    kept = said.count("Publish Violation")
    assert kept >= LINES_A_SECOND and "L" * 65 not in said and max(map(len, said.splitlines())) < 800
    counted = [json.loads(line)["count"] for line in said.splitlines() if line.startswith("{")]
    assert kept + sum(counted) == 2000


async def _flood(service: Service) -> None:
    """Publish to 2,000 forbidden subjects of 3,900 bytes."""
    async with service.role("resource") as caller:
        for number in range(2000):
            await caller.connection.publish(f"a{number}." + "L" * 3900)
        await caller.connection.flush()
