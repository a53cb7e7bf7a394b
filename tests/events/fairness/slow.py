"""Work that lasts until it is released, to see whose turn it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Slow:
    """Work that lasts until `go` is released, and records who has begun."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.go = asyncio.Semaphore(0)

    async def __call__(self, who: str) -> bytes:
        self.began.append(who)
        await self.go.acquire()
        return b"{}"

    async def until(self, *began: str) -> None:
        """Wait until exactly these have begun, in this order."""
        async with asyncio.timeout(10):
            while len(self.began) < len(began):
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert self.began == list(began)


@asynccontextmanager
async def ended(slow: Slow, *tasks: asyncio.Task[Any]) -> AsyncIterator[None]:
    """When the block ends, all of these are released and awaited."""
    yield
    for _ in range(1000):
        slow.go.release()
    await asyncio.gather(*tasks)
