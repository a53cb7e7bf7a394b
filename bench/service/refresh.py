"""Measures refreshes over the bus by a client: each worker redeems the newest token of its own family."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from nats.aio.client import Client

from bench.machine import Figure
from bench.service.load import Caller, Failed, Load, Worker, closed_loop
from bench.service.service import CLIENT, SCOPE, TENANT, Service

_SUBJECT = f"oauth.{TENANT}.client.{CLIENT}"


class Refresh(Figure, tag="refresh"):
    """Refreshes with `in_flight` at once; `load.cpu_us` is per refresh."""

    sync: str
    in_flight: int
    load: Load


class _Answer(msgspec.Struct):
    refresh_token: str = ""
    error: str | None = None


_decoder = msgspec.json.Decoder(_Answer)


class Family:
    """A client's view of a token family: its newest refresh token."""

    def __init__(self, caller: Caller, number: int, prefix: str = _SUBJECT) -> None:
        self._caller = caller
        self._prefix = prefix
        self._sub = f"user-{number:06}"
        self._token = ""

    async def open(self) -> None:
        """Get the first tokens. Raises `Failed`."""
        await self._ask("issue", {"sub": self._sub, "scope": SCOPE})

    async def refresh(self) -> None:
        """Redeem the newest token for the next one. Raises `Failed`."""
        await self._ask("token", {"grant_type": "refresh_token", "refresh_token": self._token})

    async def _ask(self, endpoint: str, parameters: dict[str, str]) -> None:
        reply = await self._caller.request(f"{self._prefix}.{endpoint}", msgspec.json.encode(parameters))
        answer = _decoder.decode(reply)
        if answer.error is not None or answer.refresh_token in ("", self._token):
            raise Failed(answer.error or "no new refresh token")
        self._token = answer.refresh_token


@asynccontextmanager
async def families(service: Service, count: int) -> AsyncIterator[list[Family]]:
    """Open `count` families as the client, through one connection."""
    async with families_through(await service.as_client(), count) as opened:
        yield opened


@asynccontextmanager
async def families_through(
    connection: Client, count: int, prefix: str = _SUBJECT, headers: dict[str, str] | None = None
) -> AsyncIterator[list[Family]]:
    """Open `count` families by requests below `prefix` with these headers; the connection is closed at the end."""
    try:
        caller = Caller(connection, headers)
        await caller.start()
        opened = [Family(caller, number, prefix) for number in range(count)]
        for family in opened:
            await family.open()
        yield opened
    finally:
        await connection.close()


async def load_of(service: Service, opened: Sequence[Family], seconds: float) -> Load:
    """Refresh all of these families at once for `seconds`, and measure that."""
    workers: list[Worker] = [family.refresh for family in opened]
    return await closed_loop(workers, seconds, service.processes | {"load": [os.getpid()]})


async def measure(service: Service, in_flight: int, seconds: float) -> Refresh:
    """Measure refreshes/s, times and CPU with `in_flight` families at once."""
    async with families(service, in_flight) as opened:
        return Refresh(service.sync, in_flight, await load_of(service, opened, seconds))
