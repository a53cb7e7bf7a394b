"""The lowest version of nats-server that keeps the log's promises (CONTRACT §6)."""

import logging
import re

from nats.errors import Error as NatsError

log = logging.getLogger("heirloom.bus")

LOWEST = (2, 15, 1)
"""Up to 2.14.3 a batch of commits is refused when the names of their families are equally long (nats-server#8376)."""
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?![.\d])")


class BrokerTooOld(Exception):
    """A broker of a version that refuses good commits; it is named."""


class BrokerLeft(NatsError):
    """That broker is left for another one; nats-py goes on searching."""


def is_enough(version: str) -> bool:
    """Whether that version will do; one that cannot be read will not."""
    match = _VERSION.match(version)
    return match is not None and tuple(map(int, match.groups())) >= LOWEST


def refusal(server: str, address: str, version: str) -> str:
    """What a person is told of such a broker."""
    found = re.sub(r"[^\w.+-]", "?", version)[:40] or "of no version that it tells"
    lowest = ".".join(map(str, LOWEST))
    name = re.sub(r"[^\w.+-]", "?", server)[:64]
    return (
        f"the broker {name} at {address} is nats-server {found}, and this service needs {lowest} or newer: "
        "older ones refuse commits that are good (nats-server#8376). Upgrade the broker"
    )
