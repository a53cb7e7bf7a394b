"""A broker has time to end in order, and no other one begins on its files before it has."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from heirloom.broker import nats_server
from heirloom.data_directory import BrokerDirectory
from heirloom.process.child_process import Child, Program
from heirloom.supervisor import supervisor

SLOW = """#!/bin/sh
trap 'sleep 0.6; echo written > index; exit' TERM
echo $$ > nats.pid
while :; do sleep 0.05; done
"""


async def test_a_new_broker_waits_until_an_earlier_one_has_written_its_files(tmp_path: Path) -> None:
    """It outlived a killed `heirloom up`; two at once would write the same log."""
    program, directory = tmp_path / "nats-server", BrokerDirectory(tmp_path)
    program.write_text(SLOW)
    program.chmod(0o700)
    assert await nats_server.end_orphan(directory), "there is none"
    with subprocess.Popen([program, "--config", directory.configuration], cwd=tmp_path) as orphan:
        while not (directory.pid_file.exists() and directory.pid_file.read_text()):
            await asyncio.sleep(0.01)
        assert not await nats_server.end_orphan(directory, 0.1), "it takes longer"
        assert await nats_server.end_orphan(directory, 20)
        assert (tmp_path / "index").read_text() == "written\n"
        assert orphan.wait(5) == 0


async def test_brokers_have_longer_to_end_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is killed has no index of a large log and reads all of it anew."""
    waited: list[tuple[str, float]] = []

    async def stop(child: Child, seconds: float) -> None:
        await asyncio.sleep(0)
        waited.append((child.kind, seconds))

    monkeypatch.setattr(Child, "stop", stop)
    broker = Child(Program("broker", "the broker", [], {}))
    replica = Child(Program("replica", "replica 1", [], {}))
    await supervisor._stop([broker, replica])
    assert waited == [("replica", supervisor.DRAIN_SECONDS), ("broker", nats_server.STOP_SECONDS)]
    assert nats_server.STOP_SECONDS >= 60
