"""The stream of the revocation feed, and the subjects on which its entries are stored and heard (CONTRACT §8).

It is made from the log, and can be made again: a backup does not contain it.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.log.jetstream_api import JetStreamMissing, request_json
from events.log.stream import WeakStream, ensure_exactly
from service.decide.policy import Rules

log = logging.getLogger("heirloom.revocations")

STREAM = "REVOCATIONS"
STORED, PROGRESS = "feed.entries.*", "feed.progress"
"""Where entries are stored, all of a tenant on one subject; and notes of how far the log was read without any."""
HEARD = ("revocations.>", "keys.*")
"""Where entries are published once they are stored, and a heartbeat for each tenant."""
VERIFIER_LEEWAY_SECONDS = 300
"""The most that a verifier may add to a token's `exp` because clocks differ."""
SETTLE_SECONDS = 15
"""How long after a client's disabling another replica may still answer its requests, and `exp` be rounded up."""
LOOK_SECONDS = 5.0
"""Between two looks at whether the stream is there, and access tokens live longer now: verifiers wait for it."""


class Info(msgspec.Struct, frozen=True):
    """The stream as its leader has it: when it was made, its sequences, and how long entries are kept (ns).

    `ts` is the leader's clock.
    """

    class State(msgspec.Struct, frozen=True):
        """Its first and last sequence."""

        first_seq: int
        last_seq: int

    class Config(msgspec.Struct, frozen=True):
        """The part of its configuration that changes."""

        max_age: int

    created: str
    ts: datetime
    state: State
    config: Config


def stored_on(tenant: str) -> str:
    """The subject on which the tenant's entries are stored."""
    return f"feed.entries.{tenant}"


def heartbeat_on(tenant: str) -> str:
    """The subject of the tenant's heartbeats."""
    return f"revocations.{tenant}"


def tolerance(max_clock_skew: int) -> int:
    """For how many seconds more than a token lives, by its `expires_in`, somebody may accept it.

    Two replicas' clocks are apart by at most twice the skew, and a verifier may add its leeway.
    """
    return 2 * max_clock_skew + VERIFIER_LEEWAY_SECONDS + SETTLE_SECONDS


def configuration(copies: int, max_age: int) -> dict[str, Any]:
    """The configuration of the stream; `max_age` in nanoseconds."""
    return {
        "name": STREAM,
        "subjects": [STORED, PROGRESS],
        "retention": "limits",
        "storage": "file",
        "num_replicas": copies,
        "discard": "old",
        "max_age": max_age,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
    }


async def read_info(connection: Connection) -> Info:
    """The stream's state. Raises `JetStreamMissing`, also where there is no such stream yet."""
    answer = await request_json(connection, f"STREAM.INFO.{STREAM}", {})
    if "error" in answer:
        raise JetStreamMissing(f"the broker has no stream {STREAM}: {answer['error'].get('description')}")
    return msgspec.convert(answer, Info)


async def remove(connection: Connection) -> None:
    """Remove the stream: a replica makes it anew, under another name. Raises `JetStreamMissing`."""
    answer = await request_json(connection, f"STREAM.DELETE.{STREAM}", {})
    if "error" in answer:
        raise JetStreamMissing(f"the broker does not remove {STREAM}: {answer['error'].get('description')}")


async def ensure(connection: Connection, copies: int, seconds: int) -> None:
    """Create the stream, or verify the existing one, so that it keeps entries for that long at least.

    Raises `WeakStream` and `JetStreamMissing`.
    """
    found = (await request_json(connection, f"STREAM.INFO.{STREAM}", {})).get("config", {})
    max_age = max(seconds * 1_000_000_000, found.get("max_age", 0))
    await ensure_exactly(connection, configuration(copies, max_age), mends=True)


async def keep(connection: Connection, copies: int, seconds: Callable[[], int]) -> None:
    """Keep the stream as `ensure` does, for ever; `seconds` is called for how long entries are needed now."""
    while True:
        try:
            await ensure(connection, copies, seconds())
        except (JetStreamMissing, WeakStream, NatsError) as error:
            log.warning("the revocation feed's stream cannot be looked at: %s", error)
        await asyncio.sleep(LOOK_SECONDS)


DEFAULT_LIFETIME = Rules().access_token_ttl
"""Seconds that access tokens live where nothing else is configured."""
