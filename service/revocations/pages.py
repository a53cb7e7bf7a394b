"""Reads the feed for those who connect, or have missed something: page by page, all of one tenant's entries."""

import asyncio
from contextlib import aclosing
from typing import NamedTuple

import msgspec
from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.log.direct_reader import read_direct
from events.log.jetstream_api import JetStreamMissing, Unavailable
from service.revocations.entries import Progress, decode
from service.revocations.stream import STREAM, read_info, stored_on

MAX_PAGE_BYTES = 40_000
"""Of entries in a page: the broker's largest message in the accounts of callers is 64 KiB, and the keys need room."""
READ_SECONDS = 2.0


class Page(NamedTuple):
    """All of the tenant's entries up to the number `n`, from where the reader was, in JSON.

    `feed` names the feed, `at` is the broker's time before it was read, and with `more` there are later entries.
    """

    feed: str
    n: int
    at: float
    more: bool
    entries: list[msgspec.Raw]


class Pages:
    """Reads through one connection, which may read the stream."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def page(self, tenant: str, after: int, feed: str) -> Page:
        """The page after the entry number `after` of that feed; the first one if there is no such feed any more.

        Raises `Unavailable`.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._page(tenant, after, feed)
        except (JetStreamMissing, NatsError, TimeoutError) as error:
            raise Unavailable("the revocation feed cannot be read now") from error

    async def _page(self, tenant: str, after: int, feed: str) -> Page:
        info = await read_info(self._connection)
        last = info.state.last_seq
        known = after if feed == info.created and after <= last else 0
        start = max(known + 1, info.state.first_seq)
        entries: list[msgspec.Raw] = []
        size, n, at = 0, known, info.ts.timestamp()
        batches = read_direct(self._connection, start, stream=STREAM, filter=stored_on(tenant), until=last)
        async with aclosing(batches):
            async for batch in batches:
                for stored in batch.messages:
                    if not _is_entry(stored.body):
                        continue
                    if size + len(stored.body) > MAX_PAGE_BYTES:
                        return Page(info.created, n, at, True, entries)
                    entries.append(msgspec.Raw(stored.body))
                    size, n = size + len(stored.body), stored.seq
        return Page(info.created, last, at, False, entries)


def _is_entry(body: bytes) -> bool:
    try:
        return not isinstance(decode(body), Progress)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
