"""Bare compare-and-swap appends by nats-py's `publish`: the yardstick of everything that writes to the log.

They go to the service's broker, to a stream of the same configuration, with subjects and expectations like the log's.
"""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from bench.machine import Figure
from bench.service.load import Failed, Load, closed_loop
from bench.service.refresh import families
from bench.service.service import Service
from events.aggregates.aggregate_names import STREAM
from events.log import stream
from events.log.stream import Required

_BARE = "BARE"


class Appends(Figure, tag="appends"):
    """Single appends of `size` bytes, `in_flight` at once; `load.cpu_us` is per append."""

    sync: str
    in_flight: int
    size: int
    load: Load


class _Aggregate:
    def __init__(self, connection: Client, body: bytes) -> None:
        self._jetstream = connection.jetstream()
        self._body = body
        self._name = f"heirloom.bare.acme.family.{secrets.token_hex(11)}"
        self._last = 0

    async def append(self) -> None:
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(self._last),
            "Nats-Expected-Last-Subject-Sequence-Subject": f"{self._name}.*",
        }
        try:
            ack = await self._jetstream.publish(f"{self._name}.live", self._body, timeout=5, headers=headers)
        except NatsError as error:
            raise Failed(type(error).__name__) from error
        self._last = ack.seq


async def measure(service: Service, in_flight: int, body: bytes, seconds: float) -> Appends:
    """Measure appends/s, times and CPU with `in_flight` aggregates at once."""
    async with _bare_stream(service) as connection:
        aggregates = [_Aggregate(connection, body) for _ in range(in_flight)]
        processes = {"client": [os.getpid()], "broker": service.processes["broker"]}
        load = await closed_loop([aggregate.append for aggregate in aggregates], seconds, processes)
    return Appends(service.sync, in_flight, len(body), load)


async def real_body(service: Service) -> bytes:
    """The body that a refresh appends: the newest commit of a family that was refreshed once."""
    async with families(service, 1) as (family,):
        await family.refresh()
    connection = await service.as_service()
    try:
        newest = await connection.jetstream().get_last_msg(STREAM, "tokens.*.family.*.live")
    finally:
        await connection.close()
    return newest.data or b""


@asynccontextmanager
async def _bare_stream(service: Service) -> AsyncIterator[Client]:
    connection = await service.as_service()
    configuration = stream.configuration(Required()) | {"name": _BARE, "subjects": ["heirloom.bare.>"]}
    del configuration["republish"]
    try:
        await connection.request(f"$JS.API.STREAM.CREATE.{_BARE}", msgspec.json.encode(configuration), timeout=5)
        yield connection
        await connection.jetstream().delete_stream(_BARE)
    finally:
        await connection.close()
