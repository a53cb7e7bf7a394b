"""A microservice that logs people in, calls a resource with their access token, and keeps it fresh.

python microservice.py "$(heirloom url --client acme/web)" ~/.acme/alice
"""

import asyncio
import sys

from heirloom_client import Client, FileStore, InvalidGrant, StoreError, Tokens, TokenSource


async def call_a_resource(token: Tokens) -> int:
    """What the resource answers; here, one that rejects whatever it has seen before."""
    headers = {"Authorization": f"Bearer {token.access_token}"}
    is_new = headers["Authorization"] not in _seen
    _seen.add(headers["Authorization"])
    return 200 if is_new else 401


_seen: set[str] = set()


async def call(source: TokenSource) -> int:
    """Once more with a newer token, where the first is rejected."""
    token = await source.token(min_ttl=30)
    status = await call_a_resource(token)
    if status == 401:
        source.rejected(token)
        status = await call_a_resource(await source.token(min_ttl=30))
    return status


async def main(url: str, place: str) -> None:
    """Go on with what is stored; log in where there is nothing, or where it has ended."""
    store = FileStore(place)
    async with Client.connect(url, tenant="acme", client_id="web") as oauth:
        source = oauth.source(store=store)
        try:
            await source.token()
        except (StoreError, InvalidGrant) as error:
            print("logging in:", error.code)
            first = await oauth.issue("alice", "read offline_access")  # after you have authenticated alice
            source = oauth.source(first, store=store)
        for _ in range(3):
            print("the resource says", await call(source))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
