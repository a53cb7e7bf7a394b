"""Measures refreshes over the bus by a client: each worker redeems the newest token of its own family."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from bench.service.load import Caller, Failed, Load, Worker, closed_loop
from bench.service.service import CLIENT, SCOPE, TENANT, Service
from bench.yardsticks.machine import Figure

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
    """Open `count` families through one connection."""
    connection = await service.as_client()
    try:
        caller = Caller(connection)
        await caller.start()
        opened = [Family(caller, number) for number in range(count)]
        for family in opened:
            await family.open()
        yield opened
    finally:
        await connection.close()


async def measure(service: Service, in_flight: int, seconds: float) -> Refresh:
    """Measure refreshes/s, times and CPU with `in_flight` families at once."""
    async with families(service, in_flight) as opened:
        workers: list[Worker] = [family.refresh for family in opened]
        load = await closed_loop(workers, seconds, service.processes | {"load": [os.getpid()]})
    return Refresh(service.sync, in_flight, load)
