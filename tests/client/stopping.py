"""A process that stops itself between reading a shared store and sending: the program of `test_processes`.

Its arguments are the NATS URL, the tenant, and the store's directory. It takes the store's token, and then a newer one.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from heirloom_client import Client, FileStore
from heirloom_client.link import Link

_request = Link.request


async def _stopping(link: Link, *parts: Any) -> Any:
    Link.request = _request  # type: ignore[method-assign]  # it stops once
    os.kill(os.getpid(), signal.SIGSTOP)
    return await _request(link, *parts)


async def run(url: str, tenant: str, place: str) -> None:
    """Print whether the second token is another one."""
    async with Client.connect(url, tenant=tenant, client_id="app", timeout=120) as oauth:
        source = oauth.source(store=FileStore(place))
        first = await source.token()
        source.rejected(first)
        Link.request = _stopping  # type: ignore[assignment, method-assign]
        second = await source.token()
        print("another token" if second.access_token != first.access_token else "the same token")


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
