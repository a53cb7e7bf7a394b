"""A process on the broker's port learns no secrets, and commands detect that the service is gone (ADR 0021)."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
import nkeys
import pytest

from events.bus.connect import connect
from events.bus.peer import BROKER_OWNER, NotOurBroker
from heirloom.broker import nats_server
from heirloom.broker.run_file import Running
from heirloom.cli.service_connection import running_service
from heirloom.data_directory import BrokerDirectory, DataDirectory
from heirloom.process.child_process import Child, Program
from tests.system.service import HEIRLOOM, Service

NOBODY = 65534
LISTENER = """
import json, os, socket, sys, threading
port, user, file = int(sys.argv[1]), int(sys.argv[2]), os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND)
if user:
    os.setuid(user)
listening = socket.create_server(("127.0.0.1", port))
INFO = {"server_id": "evil", "version": "2.15.1", "headers": True, "auth_required": True, "max_payload": 1048576,
        "nonce": "chosen-by-me", "connect_urls": ["127.0.0.1:9"]}
def take(taken):
    taken.sendall(b"INFO " + json.dumps(INFO).encode() + b"\\r\\n")
    os.write(file, b"came\\n")
    while said := taken.recv(65536):
        os.write(file, said)
print("ready", flush=True)
while True:
    threading.Thread(target=take, args=(listening.accept()[0],), daemon=True).start()
"""


@contextmanager
def impostor(port: int, heard: Path, user: int = 0) -> Iterator[None]:
    """A listener that behaves as a broker, run by that user; everything it receives is written to `heard`."""
    heard.touch()
    command = [sys.executable, "-c", LISTENER.replace("\\\\", "\\"), str(port), str(user), str(heard)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def said(heard: Path) -> list[str]:
    """The lines it received, without its notes of connections."""
    return [line for line in heard.read_text().splitlines() if line != "came"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names the owner of a connection's other end")
async def test_another_users_process_receives_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a password nor a signature, which it could pass on to the broker."""
    port, heard = nats_server.free_port(), tmp_path / "heard"
    url, seed = f"nats://operator:secret@127.0.0.1:{port}", _seed()
    with impostor(port, heard):
        for expected in os.geteuid() + 1, os.geteuid() + 2:
            monkeypatch.setenv(BROKER_OWNER, str(expected))
            with pytest.raises(NotOurBroker, match="nothing was sent to it"):
                await connect(url, "test", patient=False)
            with pytest.raises(NotOurBroker):
                await connect(f"nats://127.0.0.1:{port}", "test", nkey_seed=seed, patient=False)
        async with asyncio.timeout(20):  # the other process may write its notes later
            while heard.read_text().count("came\n") < 4:
                await asyncio.sleep(0.05)
        assert heard.read_text() == "came\n" * 4
        monkeypatch.delenv(BROKER_OWNER)  # without it the owner is unknown, and only a signature is sent
        with pytest.raises((Exception, asyncio.TimeoutError)):
            await connect(f"nats://127.0.0.1:{port}", "test", nkey_seed=seed, patient=False)
        (line,) = [line for line in said(heard) if line.startswith("CONNECT")]
        assert '"sig"' in line and "pass" not in line and "auth_token" not in line and seed not in line


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can be another user")
async def test_an_impostor_on_the_brokers_port_receives_no_credentials(service: Service, tmp_path: Path) -> None:
    """From no process of `heirloom up` and no command; when it is gone, the service goes on."""
    heard, port = tmp_path / "heard", int(service.host.rpartition(":")[2])
    os.kill(service.pid, signal.SIGSTOP)  # it would start the broker again at once
    try:
        service.kill_child("nats-server")
        with impostor(_until_free(port), heard, NOBODY):
            async with asyncio.timeout(20):
                while heard.read_text().count("came\n") < 30:  # ten processes, which reconnect
                    await asyncio.sleep(0.05)
            for command in (["audit", "families", "--tenant", "acme"], ["url", "--role", "operator"], ["backup"]):
                into = [str(tmp_path / "backup")] if command == ["backup"] else []
                asked = [str(HEIRLOOM), *command, "--data", str(service.data), *into]
                told = subprocess.run(asked, capture_output=True, text=True)
                assert told.returncode == 1, told
            assert f"a process of user {NOBODY}" in told.stderr
            assert said(heard) == []
    finally:
        os.kill(service.pid, signal.SIGCONT)
    async with service.client() as web:
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await web.issue(scope="read")
                    break
                except Exception:  # the broker is being started
                    await asyncio.sleep(0.1)


def test_a_service_that_is_gone_gets_no_request(tmp_path: Path) -> None:
    """`up.json` stays after a kill -9, and another process may listen on that port now."""
    stale = Running("127.0.0.1:1", _gone(), ours=True)
    DataDirectory(tmp_path).run_file.write_bytes(msgspec.json.encode(stale))
    _says_that_nothing_runs(tmp_path)
    DataDirectory(tmp_path).lock.touch()
    _says_that_nothing_runs(tmp_path)
    with DataDirectory(tmp_path).lock.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _says_that_nothing_runs(tmp_path)  # another process holds the lock, `heirloom broker-config` perhaps
        alive = Running("127.0.0.1:1", os.getpid(), ours=True)
        DataDirectory(tmp_path).run_file.write_bytes(msgspec.json.encode(alive))
        assert running_service(tmp_path) == alive
    _says_that_nothing_runs(tmp_path)


def _says_that_nothing_runs(data: Path) -> None:
    with pytest.raises(click.ClickException, match="no service runs on"):
        running_service(data)


def _gone() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def _seed() -> str:
    seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode()


def _until_free(port: int) -> int:
    deadline = time.monotonic() + 10
    while not nats_server.is_free(port) and time.monotonic() < deadline:
        time.sleep(0.01)
    return port


async def test_another_directorys_broker_is_not_killed(tmp_path: Path) -> None:
    """`A2` begins like `A`, and the pid in a stale file may be another process's by now."""
    mine, neighbours = tmp_path / "A", tmp_path / "A2"
    for directory in (mine, neighbours):
        directory.mkdir()
        (directory / "nats.conf").write_text('listen: "127.0.0.1:-1"\n')
    command = [nats_server.binary(), "--config", str(neighbours / "nats.conf")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as broker:
        try:
            (mine / "nats.pid").write_text(str(broker.pid))
            assert await nats_server.end_orphan(BrokerDirectory(mine))
            with pytest.raises(subprocess.TimeoutExpired):
                broker.wait(0.3)
            (neighbours / "nats.pid").write_text(str(broker.pid))
            await nats_server.end_orphan(BrokerDirectory(neighbours), 0)
            broker.wait(10)
        finally:
            broker.kill()


async def test_a_stopped_broker_leaves_no_pid_file(tmp_path: Path) -> None:
    """The pid may be another process's when `up` starts again."""

    async def at_once() -> bool:
        return True

    file = tmp_path / "nats.pid"
    child = Child(Program("broker", "a broker", ["sleep", "60"], dict(os.environ), pid_file=file), is_ready=at_once)
    await child.start()
    assert file.read_text().isdecimal()
    await child.stop(5)
    assert not file.exists()
