"""A stream in the broker's memory, for what may be forgotten: a broker that starts anew has lost it, name and all.

So whoever finds it gone makes it anew, and goes on with an empty one.
"""

import asyncio
from typing import Any

import msgspec
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from events.bus.connection import Connection
from events.log.log import Unavailable
from events.log.stream import NOT_FOUND, JetStreamMissing, WeakStream, ensure_exactly

ANSWER_SECONDS = 1.0


class _Error(msgspec.Struct):
    err_code: int = 0


class _Reply(msgspec.Struct):
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_Reply)


class MemoryStream:
    """The stream of one configuration, whose copies are told at the `start`."""

    def __init__(self, connection: Connection, configuration: dict[str, Any]) -> None:
        self._connection = connection
        self._configuration = configuration
        self._name = configuration["name"]

    async def start(self, replicas: int) -> None:
        """Make the stream, or verify the one there is. Raises `WeakStream` and `JetStreamMissing`."""
        self._configuration = self._configuration | {"num_replicas": replicas}
        await ensure_exactly(self._connection, self._configuration, mends=True)

    async def ask(self, operation: str, **request: Any) -> bytes:
        """The leader's answer to `STREAM.<operation>`. Raises `Unavailable`."""
        return await self._request(f"$JS.API.STREAM.{operation}.{self._name}", msgspec.json.encode(request))

    async def publish(self, subject: str) -> bytes:
        """The leader's acknowledgement of an empty message, or its refusal. Raises `Unavailable`."""
        return await self._request(subject, b"")

    async def _request(self, subject: str, body: bytes) -> bytes:
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                if (found := await self._once(subject, body)) is not None:
                    return found
                await ensure_exactly(self._connection, self._configuration, mends=True)
                found = await self._once(subject, body)
        except (NatsError, TimeoutError, JetStreamMissing, WeakStream) as error:
            raise Unavailable(f"the stream {self._name} does not answer now") from error
        if found is None:
            raise Unavailable(f"the stream {self._name} does not answer now")
        return found

    async def _once(self, subject: str, body: bytes) -> bytes | None:
        """None where there is no such stream."""
        try:
            data = (await self._connection.request(subject, body, timeout=ANSWER_SECONDS)).data
        except NoRespondersError:
            return None
        error = _decoder.decode(data).error
        return None if error is not None and error.err_code == NOT_FOUND else data
