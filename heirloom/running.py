"""What a running `heirloom up` tells other commands: `up.json` in its data directory."""

from urllib.parse import urlsplit

import msgspec

from heirloom.tls import Tls

RUNNING = "up.json"


class Running(msgspec.Struct, frozen=True):
    """Where the brokers are, and whether they know the credentials made here.

    `host` is host and port; of a cluster, all of them with commas between.

    `metrics` is where metrics and health are told, if they are. `tls` are the broker's certificate and authority.
    """

    host: str
    pid: int
    ours: bool
    metrics: str | None = None
    tls: Tls | None = None

    @property
    def url(self) -> str:
        """Where to connect, without credentials; of a cluster, all of them with commas between."""
        scheme = "nats" if self.tls is None else "tls"
        return ",".join(f"{scheme}://{one}" for one in self.host.split(","))


def address(host: str, port: int) -> str:
    """Host and port as URLs and the broker's configuration have them: an IPv6 address in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(url: str) -> str:
    """Host and port, without credentials; of a cluster, all of them with commas between, each a URL or not."""
    parts = [urlsplit(one if "//" in one else f"//{one}") for one in url.split(",")]
    return ",".join(address(part.hostname or "", part.port or 4222) for part in parts)
