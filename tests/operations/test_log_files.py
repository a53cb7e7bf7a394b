"""What the processes write for people is bounded: in what strangers may put there, in size, and by the disk's room."""

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
    written = _written(tmp_path, LogLimits(2000, 3), 0, 100)
    assert list(written) == ["replica-1.log", "replica-1.log.1", "replica-1.log.2"]
    assert written["replica-1.log"][-1] == "a traceback, say", "standard error goes where the log goes"
    kept = [number for name in reversed(written) for number in _outcomes(written[name])]
    assert kept == list(range(100 - len(kept), 100))
    assert len(kept) > 20


def test_one_file_begins_anew(tmp_path: Path) -> None:
    """`--log-files 1`."""
    written = _written(tmp_path, LogLimits(2000, 1), 0, 100)
    assert list(written) == ["replica-1.log"]
    assert _outcomes(written["replica-1.log"])[-1] == 99


def test_the_last_gigabyte_is_not_for_logs(tmp_path: Path) -> None:
    """The log of tokens needs it. What was dropped is counted, and said once when there is room again."""
    (lines,) = _written(tmp_path, LogLimits(), 0, 1, 1 << 60, 30, 0, 2).values()
    assert [json.loads(line).get("count") for line in lines[:-1]] == [None, 30, None, None]
    assert [json.loads(line).get("outcome") for line in lines[:-1]] == ["0", None, "0", "1"]


def test_strangers_words_are_cut() -> None:
    """A tenant's name in a subject may be of 4,000 characters, and any bytes: 64 of them are logged."""
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
    """What is in its file when it has ended."""

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
def test_the_brokers_words_are_cut(tmp_path: Path, name: bytes, subject: bytes) -> None:
    """17,600 subjects of 3,900 bytes in four seconds wrote 67 MB: a stranger's words are of 64 characters."""
    whole = BY % (name, b"RESOURCES/user:resource", subject)
    (line,) = _broker_says(tmp_path, whole[:1000], whole[1000:])
    assert line.startswith("[1] 2026/11/29 18:29:29.333911 [ERR] 127.0.0.1:54216 - cid:6 - ")
    assert len(line.encode()) < 800 and "RESOURCES/user:resource" in line
    assert "L" * 65 not in line and "n" * 65 not in line


def test_a_subscriptions_own_number_is_cut(tmp_path: Path) -> None:
    """It is the only word of a stranger's that the broker does not quote."""
    line = BY.replace(b"%b", b"x").replace(b"\n", b", SID " + b"7" * 4000 + b"\n")
    (said,) = _broker_says(tmp_path, line)
    assert said.endswith(", SID " + "7" * 64 + "…")


def test_strangers_fill_no_log_of_the_brokers(tmp_path: Path) -> None:
    """So many lines a second, the rest counted; what the broker says of itself and of our own is all there."""
    own, ready = BY % (b"heirloom service", b"HEIRLOOM/nkey:U", b"tokens.x"), b"[1] 2026/11/29 [INF] Server is ready\n"
    forged = BY % (b'x\\" - \\"HEIRLOOM/x', b"USERS/user:a", b'\\"HEIRLOOM/')
    lines = _broker_says(tmp_path, ready, forged * 500, own * 50, forged * 500, ready)
    assert len([line for line in lines if line.endswith("Server is ready")]) == 2
    assert len([line for line in lines if "heirloom service" in line]) == 50
    kept = [line for line in lines if "USERS/user:a" in line]
    assert LINES_A_SECOND <= len(kept) <= 3 * LINES_A_SECOND, "a second or three, on a slow machine"
    counted = [json.loads(line)["count"] for line in lines if line.startswith("{")]
    assert sum(counted) + len(kept) == 1000


def test_on_the_last_gigabyte_the_broker_still_tells_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who keeps room on the disk reads it there; strangers' lines are dropped."""
    monkeypatch.setattr(log_file, "RESERVE", 1 << 60)
    full = b"[1] 2026/11/29 [ERR] JetStream: write a.blk: no space left on device\n"
    assert _broker_says(tmp_path, BY % (b"x", b"USERS/a", b"y"), full)[-1].endswith("no space left on device")


def test_up_bounds_all_logs_as_it_is_told(tmp_path: Path) -> None:
    """`--log-size 1 --log-files 2`, on files that are nearly full; and a flood of what the broker forbids."""
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
                assert time.monotonic() < deadline, "the full file has given way to another"
                time.sleep(0.05)  # what the process writes may come a moment after it is ready
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
    """2,000 forbidden subjects of 3,900 bytes."""
    async with service.role("resource") as caller:
        for number in range(2000):
            await caller.connection.publish(f"a{number}." + "L" * 3900)
        await caller.connection.flush()
