"""Connections by nats-py itself, which show what the broker accepts and refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError


@asynccontextmanager
async def connected(url: str, errors: list[str] | None = None, **options: Any) -> AsyncIterator[Client]:
    """A connection that does not reconnect; the broker's errors are appended to `errors`, in lower case."""

    async def note(error: Exception) -> None:
        if errors is not None:
            errors.append(str(error).lower())

    connection = Client()
    try:
        await connection.connect(url, allow_reconnect=False, error_cb=note, **options)
        yield connection
    finally:
        await connection.close()
        if connection._transport is not None:  # nats-py leaves it open after a refusal
            connection._transport.close()  # type: ignore[no-untyped-call]  # as nats-py has it
            await asyncio.sleep(0)


async def is_accepted(url: str, **options: Any) -> bool:
    """Whether the broker accepts this connection."""
    try:
        async with connected(url, **options) as connection:
            await connection.flush(2)  # nats-py reports a connection that ends at once as open
    except NatsError:
        return False
    return True
