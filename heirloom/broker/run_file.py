"""The run file, `up.json` in the data directory: where other commands find the running service."""

import fcntl
import os
from urllib.parse import urlsplit

import msgspec

from events.bus.peer import BROKER_OWNER
from heirloom.broker.tls import Tls
from heirloom.data_directory import DataDirectory


class Running(msgspec.Struct, frozen=True):
    """Where the service's brokers are, and whether they know the credentials that are made here (`ours`).

    `host` is host and port; for a cluster all of them, separated by commas. `metrics` is the address of metrics and
    health, if they are served. `tls` are the broker's certificate and authority. `owner` is the embedded broker's user
    id, where the system tells it and there is no certificate.
    """

    host: str
    pid: int
    ours: bool
    metrics: str | None = None
    tls: Tls | None = None
    owner: int | None = None

    def pin_broker(self) -> None:
        """Let this process, and those it starts, connect only to this broker, by its certificate or its owner."""
        if self.tls is not None:
            self.tls.pin()
        if self.owner is not None:
            os.environ[BROKER_OWNER] = str(self.owner)

    def is_alive(self, data: DataDirectory) -> bool:
        """Whether the `heirloom up` that wrote this still runs on `data`: it holds the lock, and its process exists."""
        try:
            descriptor = os.open(data.lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return is_a_process(self.pid)
        finally:
            os.close(descriptor)

    @property
    def url(self) -> str:
        """The URL to connect to, without credentials; for a cluster all of them, separated by commas."""
        scheme = "nats" if self.tls is None else "tls"
        return ",".join(f"{scheme}://{one}" for one in self.host.split(","))


def is_a_process(pid: int) -> bool:
    """Whether a process of that id exists, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def address(host: str, port: int) -> str:
    """Host and port as in URLs and in the broker's configuration: an IPv6 address in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(url: str) -> str:
    """Host and port of a URL, or of a host with a port, without credentials; for several, separated by commas, all."""
    parts = [urlsplit(one if "//" in one else f"//{one}") for one in url.split(",")]
    return ",".join(address(part.hostname or "", part.port or 4222) for part in parts)
