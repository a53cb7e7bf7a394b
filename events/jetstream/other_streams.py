"""Checks streams that are not this service's: none may receive what is published for it, or publish in its name.

Such a stream would store clients' requests, tokens included, or answer them; one that republishes would publish on
subjects that are the service's alone. Anybody who may create streams on the broker could add one, and so could a
restored copy of its store.
"""

import re
from collections.abc import Collection
from typing import Any

from events.bus.connection import Connection
from events.log.stream import every_configuration

OURS = (
    *("oauth.>", "admin.>", "audit.>", "tokens.>", "revoked.>", "heirloom.>"),
    *("feed.>", "revocations.>", "keys.*"),
    *("$SRV.>", "$SYS.>", "$JS.>", "$KV.heirloom-assertions.>", "_INBOX.>", "_R_.>"),
)
"""The subjects on which the service publishes, answers or stores."""
_TEMPLATE = re.compile(r"\{\{|\$\d")


class OtherStreams(Exception):
    """Other streams use the service's subjects. The text names each and what it does."""


async def refuse_other_streams(connection: Connection, known: Collection[str]) -> None:
    """Raise `OtherStreams` if a stream besides the `known` ones uses our subjects; raises `JetStreamMissing`."""
    faults = [
        f"{config['name']} {fault}"
        for config in await every_configuration(connection)
        if config["name"] not in known
        for fault in reaches(config)
    ]
    if faults:
        raise OtherStreams(
            "streams on the broker reach into this service's subjects: "
            + "; ".join(faults)
            + ". Remove them (nats stream rm), or give the service an account of its own: heirloom broker-config."
        )


def reaches(config: dict[str, Any]) -> list[str]:
    """List the service's subjects that a stream of this configuration receives or publishes on."""
    taken = [f"takes {subject}" for subject in config.get("subjects") or () if _is_ours(subject)]
    destinations = [config.get("republish"), config.get("subject_transform")]
    written = [place["dest"] for place in destinations if place and _is_ours(place.get("dest") or ">")]
    return taken + [f"publishes on {subject}" for subject in written]


def _is_ours(subject: str) -> bool:
    return any(overlap(subject, ours) for ours in OURS)


def overlap(one: str, other: str) -> bool:
    """Whether some subject matches both patterns. A placeholder in a template may become any token."""
    mine, theirs = one.split("."), other.split(".")
    for here, there in zip(mine, theirs, strict=False):
        if ">" in (here, there):
            return True
        if here != there and "*" not in (here, there) and not _TEMPLATE.search(here):
            return False
    return len(mine) == len(theirs)
