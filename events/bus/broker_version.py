"""The lowest version of nats-server that appends every valid batch (CONTRACT §6)."""

import logging
import re

from nats.errors import Error as NatsError

log = logging.getLogger("heirloom.bus")

LOWEST = (2, 15, 1)
"""Up to 2.14.3 the server rejects a batch whose families' names are equally long (nats-server#8376)."""
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?![.\d])")


class BrokerTooOld(Exception):
    """The broker's version rejects valid commits. The error's text names the broker and its version."""


class BrokerLeft(NatsError):
    """A broker is too old; nats-py shall try the next one."""


def is_enough(version: str) -> bool:
    """Whether that version is high enough. An unreadable version is not."""
    match = _VERSION.match(version)
    return match is not None and tuple(map(int, match.groups())) >= LOWEST


def refusal(server: str, address: str, version: str) -> str:
    """The error text about a broker that is too old."""
    found = re.sub(r"[^\w.+-]", "?", version)[:40] or "of an unknown version"
    lowest = ".".join(map(str, LOWEST))
    name = re.sub(r"[^\w.+-]", "?", server)[:64]
    return (
        f"the broker {name} at {address} is nats-server {found}, and this service needs {lowest} or newer: "
        "older ones refuse commits that are good (nats-server#8376). Upgrade the broker"
    )
