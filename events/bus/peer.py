"""Whose process is at the other end of a connection on this machine: Linux tells, in /proc/net/tcp (ADR 0021)."""

import socket
import sys
from pathlib import Path

TABLES = Path("/proc/net/tcp"), Path("/proc/net/tcp6")
ESTABLISHED = "01"


def owner(connected: socket.socket) -> int | None:
    """The user id of the process that has accepted the connection; None where the system does not tell."""
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
    """What the tables call it; an IPv4 address also as it is at the end of an IPv6 socket."""
    host, port = address[:2]
    if ":" in host:
        return (_name(socket.inet_pton(socket.AF_INET6, host), port),)
    packed = socket.inet_aton(host)
    return _name(packed, port), _name(bytes(10) + b"\xff\xff" + packed, port)


def _name(packed: bytes, port: int) -> str:
    words = (packed[begin : begin + 4] for begin in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"
