"""What a running `heirloom up` tells other commands: `up.json` in its data directory."""

import fcntl
import os
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from events.bus.peer import BROKER_OWNER
from heirloom.broker.tls import Tls

RUNNING, LOCK = "up.json", "lock"


class Running(msgspec.Struct, frozen=True):
    """Where the brokers are, and whether they know the credentials made here.

    `host` is host and port; of a cluster, all of them with commas between.

    `metrics` is where metrics and health are told, if they are. `tls` are the broker's certificate and authority.
    `owner` is the id of the user whose process the embedded broker is, where that can be told and no certificate says
    more.
    """

    host: str
    pid: int
    ours: bool
    metrics: str | None = None
    tls: Tls | None = None
    owner: int | None = None

    def know_the_broker(self) -> None:
        """Have this process, and those it starts, speak to this broker alone: known by its certificate or its owner."""
        if self.tls is not None:
            self.tls.be_trusted()
        if self.owner is not None:
            os.environ[BROKER_OWNER] = str(self.owner)

    def is_alive(self, data: Path) -> bool:
        """Whether the `heirloom up` that wrote this still runs on `data`: it holds the lock, and its process lives."""
        try:
            descriptor = os.open(data / LOCK, os.O_RDONLY | os.O_CLOEXEC)
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
        """Where to connect, without credentials; of a cluster, all of them with commas between."""
        scheme = "nats" if self.tls is None else "tls"
        return ",".join(f"{scheme}://{one}" for one in self.host.split(","))


def is_a_process(pid: int) -> bool:
    """Whether there is one of that number, whosever."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def address(host: str, port: int) -> str:
    """Host and port as URLs and the broker's configuration have them: an IPv6 address in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(url: str) -> str:
    """Host and port, without credentials; of a cluster, all of them with commas between, each a URL or not."""
    parts = [urlsplit(one if "//" in one else f"//{one}") for one in url.split(",")]
    return ",".join(address(part.hostname or "", part.port or 4222) for part in parts)
