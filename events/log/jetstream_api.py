"""Requests to JetStream's API, by which the broker manages streams and consumers: one request, one reply in JSON.

nats-py's own client is used where it does more than that: acknowledged publishes, and consumers (ADR 0041).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from nats.errors import NoRespondersError
from nats.js.errors import ServiceUnavailableError

from events.bus.connection import Connection

NO_MESSAGE = 10037
NOT_FOUND = 10059
"""Error code: there is no such stream."""
UNSETTLED = (10005, 10008)
"""Error codes: no suitable peers yet; temporarily unavailable."""
REPLY_TIMEOUT_SECONDS = 5.0
ELECTION_SECONDS = 15.0
"""How long a cluster may take to elect its leaders."""


class ApiError(msgspec.Struct, frozen=True):
    """An error of the API: an HTTP-like status, JetStream's own error code, and a text."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Unavailable(Exception):
    """The log, or something beside it, cannot be reached now. After an append, the commit may have been stored."""


class JetStreamMissing(Exception):
    """The broker answers, but its JetStream does not, or refuses."""


class NoLeader(JetStreamMissing):
    """The broker's cluster has no leader at the moment."""


async def request_bytes(connection: Connection, operation: str, request: bytes, seconds: float) -> bytes:
    """Return the reply to `operation`, such as `STREAM.INFO.TOKENS`. Raises what `Connection.request` raises."""
    return (await connection.request(f"{connection.jetstream_api}.{operation}", request, timeout=seconds)).data


async def request_json(connection: Connection, operation: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return the decoded reply, which may be an `error`. Raises `JetStreamMissing`, and `NoLeader` during an election.

    Other errors are those of `Connection.request`.
    """
    try:
        reply = await request_bytes(connection, operation, msgspec.json.encode(request), REPLY_TIMEOUT_SECONDS)
    except NoRespondersError as error:
        raise JetStreamMissing("the broker has no JetStream; start nats-server with -js") from error
    except TimeoutError as error:
        raise NoLeader("the broker's JetStream does not answer; is it full, or most of its cluster gone?") from error
    answer: dict[str, Any] = msgspec.json.decode(reply)
    if answer.get("error", {}).get("err_code") in UNSETTLED:
        raise NoLeader(f"the broker's cluster has no leader: {answer['error'].get('description')}")
    return answer


async def with_a_leader(work: Callable[[], Awaitable[object]]) -> None:
    """Run `work`, again and again while the cluster elects a leader. Raises the last error of `work`."""
    deadline = asyncio.get_running_loop().time() + ELECTION_SECONDS
    while True:
        try:
            await work()
            return
        except (NoLeader, TimeoutError, ServiceUnavailableError):
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.2)
