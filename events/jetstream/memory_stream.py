"""A stream in the broker's memory, for messages that may be lost. A restart of the broker removes the stream itself.

A request that finds the stream gone creates it again, and continues with an empty one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from events.bus.connection import Connection
from events.log.jetstream_api import NOT_FOUND, ApiError, JetStreamMissing, Unavailable, request_bytes
from events.log.stream import WeakStream, ensure_exactly

REPLY_TIMEOUT_SECONDS = 1.0


class _Reply(msgspec.Struct):
    error: ApiError | None = None


_decoder = msgspec.json.Decoder(_Reply)


class MemoryStream:
    """The stream of this `configuration`; `start` adds the number of its copies."""

    def __init__(self, connection: Connection, configuration: dict[str, Any]) -> None:
        self._connection = connection
        self._configuration = configuration
        self._name = configuration["name"]

    async def start(self, copies: int) -> None:
        """Create the stream, or update and verify the existing one. Raises `WeakStream` and `JetStreamMissing`."""
        self._configuration = self._configuration | {"num_replicas": copies}
        await ensure_exactly(self._connection, self._configuration, mends=True)

    async def request(self, operation: str, **request: Any) -> bytes:
        """Return the leader's reply to `STREAM.<operation>`. Raises `Unavailable`."""
        body = msgspec.json.encode(request)
        operation = f"STREAM.{operation}.{self._name}"
        return await self._answered(partial(request_bytes, self._connection, operation, body, REPLY_TIMEOUT_SECONDS))

    async def publish(self, subject: str) -> bytes:
        """Publish an empty message. Returns the leader's acknowledgement or rejection. Raises `Unavailable`."""
        return await self._answered(partial(self._publish, subject))

    async def _publish(self, subject: str) -> bytes:
        return (await self._connection.request(subject, b"", timeout=REPLY_TIMEOUT_SECONDS)).data

    async def _answered(self, send: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            async with asyncio.timeout(2 * REPLY_TIMEOUT_SECONDS):
                if (found := await _once(send)) is not None:
                    return found
                await ensure_exactly(self._connection, self._configuration, mends=True)
                found = await _once(send)
        except (NatsError, TimeoutError, JetStreamMissing, WeakStream) as error:
            raise Unavailable(f"the stream {self._name} does not answer now") from error
        if found is None:
            raise Unavailable(f"the stream {self._name} does not answer now")
        return found


async def _once(send: Callable[[], Awaitable[bytes]]) -> bytes | None:
    """The reply, or None if there is no such stream."""
    try:
        reply = await send()
    except NoRespondersError:
        return None
    error = _decoder.decode(reply).error
    return None if error is not None and error.err_code == NOT_FOUND else reply
