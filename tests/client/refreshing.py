"""A process that takes tokens of a shared store until it is ended: the program of `test_processes`.

Its arguments are the NATS URL, the tenant, and where the store is: a directory, or the URL of a broker with a bucket.
"""

import asyncio
import random
import sys
from typing import Any

import nats

from heirloom_client import Client, FileStore, KvStore, Store, TokenSource
from heirloom_client.link import ConnectionLost, Link

KEY = bytes(32)
LOST = 0.1
"""The share of answers that are lost."""

_request = Link.request


async def _losing(link: Link, *parts: Any) -> Any:
    reply = await _request(link, *parts)
    if random.random() < LOST:
        raise ConnectionLost("lost by the test")
    return reply


async def run(url: str, tenant: str, place: str) -> None:
    """Print a line for each new access token."""
    Link.request = _losing  # type: ignore[assignment, method-assign]  # answers get lost
    store: Store = FileStore(place)
    if place.startswith("nats://"):
        store = KvStore((await nats.connect(place)).jetstream(), "tokens", key=KEY)
    async with Client.connect(url, tenant=tenant, client_id="app", timeout=20) as oauth:
        await follow(oauth.source(store=store))


async def follow(source: TokenSource) -> None:
    """Take a token again and again."""
    seen = ""
    while True:
        token = await source.token()
        if token.access_token != seen:
            seen = token.access_token
            print("token", flush=True)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
