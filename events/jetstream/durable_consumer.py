"""A durable consumer with exactly the configuration in the code: one that differs is deleted and created again.

A change of a consumer decides which messages are delivered, to whom, and which count as done; and a backup may contain
a consumer of anybody's making.
"""

import logging
from typing import Any

from events.bus.connection import Connection
from events.log.jetstream_api import JetStreamMissing, NoLeader, request_json
from events.log.stream import deviations

log = logging.getLogger("heirloom.durable")

DEFAULTS = {
    "deliver_policy": "all",
    "ack_policy": "explicit",
    "replay_policy": "instant",
    "max_deliver": -1,
    "max_waiting": 512,
}


async def ensure_durable(connection: Connection, stream: str, wanted: dict[str, Any]) -> None:
    """Create this consumer, or verify the existing one. A new one delivers the stream from its beginning.

    Raises `JetStreamMissing`, and what `Connection.request` raises.
    """
    name = wanted["durable_name"]
    wanted = {"name": name} | DEFAULTS | wanted
    found = await request_json(connection, f"CONSUMER.INFO.{stream}.{name}", {})
    if "config" in found and (faults := deviations(found["config"], wanted)):
        log.warning("the consumer %s is not ours and is made anew: %s", name, "; ".join(faults))
        await request_json(connection, f"CONSUMER.DELETE.{stream}.{name}", {})
    request = {"stream_name": stream, "config": wanted, "action": "create"}
    made = await request_json(connection, f"CONSUMER.DURABLE.CREATE.{stream}.{name}", request)
    if "error" in made:
        raise JetStreamMissing(f"the broker refuses the consumer {name}: {made['error'].get('description')}")
    if faults := deviations(made["config"], wanted):  # another replica may have created it meanwhile
        raise NoLeader(f"the consumer {name} is not ours: {'; '.join(faults)}")
