"""The user who owns the process at the other end of a local connection, by Linux's /proc/net/tcp (ADR 0021)."""

import socket
import sys
from pathlib import Path

from nats.errors import Error as NatsError

TABLES = Path("/proc/net/tcp"), Path("/proc/net/tcp6")
ESTABLISHED = "01"

BROKER_OWNER = "HEIRLOOM_BROKER_OWNER"
"""In the environment: the id of the user who must own the broker's process on this machine. A connection sends nothing
to a process of another user."""


class NotOurBroker(NatsError):
    """Another user's process listens at the broker's address. Nothing was sent to it."""


def require_owner(expected: int, connected: socket.socket | None, where: str) -> None:
    """Raise `NotOurBroker` unless user `expected` owns the process at the other end, whose address is `where`."""
    if connected is None or (found := owner(connected)) != expected:
        whose = "an unknown user" if connected is None or found is None else f"user {found}"
        raise NotOurBroker(
            f"what listens on {where} is a process of {whose}, and the broker is one of user {expected}:"
            " nothing was sent to it; find out who took that port"
        )


def owner(connected: socket.socket) -> int | None:
    """Find the id of the user whose process accepted the connection; None if the system does not list it."""
    theirs, ours = _names(connected.getpeername()), _names(connected.getsockname())
    ends = set(zip(theirs, ours, strict=True))
    for table in TABLES:
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for _, local, remote, state, _, _, _, uid, *_ in map(str.split, rows):
            if state == ESTABLISHED and (local, remote) in ends:
                return int(uid)
    return None


def _names(address: tuple[str, int]) -> tuple[str, ...]:
    """Format an address as the tables do; an IPv4 address also as the peer of an IPv6 socket."""
    host, port = address[:2]
    if ":" in host:
        return (_name(socket.inet_pton(socket.AF_INET6, host), port),)
    packed = socket.inet_aton(host)
    return _name(packed, port), _name(bytes(10) + b"\xff\xff" + packed, port)


def _name(packed: bytes, port: int) -> str:
    words = (packed[begin : begin + 4] for begin in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"
