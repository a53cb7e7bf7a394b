"""A flooding client in its own process: `python -m bench.service.flood URL IN_FLIGHT`.

It introspects one token again and again, `IN_FLIGHT` requests at once. It prints a line once it has begun, and the
answers per second when its input ends.
"""

import asyncio
import sys
from time import perf_counter

import msgspec
import nats

from bench.service.load import Caller, busy
from bench.service.service import CLIENT, SCOPE, TENANT

MODULE = "bench.service.flood"


async def main(url: str, in_flight: int) -> None:
    """Send requests until the input ends."""
    connection = await nats.connect(url, inbox_prefix=f"_INBOX.{TENANT}.{CLIENT}")
    caller = Caller(connection)
    await caller.start()
    subject = f"oauth.{TENANT}.client.{CLIENT}"
    issued = await caller.request(f"{subject}.issue", msgspec.json.encode({"sub": "flood", "scope": SCOPE}))
    token = msgspec.json.encode({"token": msgspec.json.decode(issued)["refresh_token"]})

    async def ask() -> None:
        await caller.request(f"{subject}.introspect", token)

    async with busy([ask] * in_flight) as record:
        started = perf_counter()
        print("begun", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(len(record.answers) / (perf_counter() - started), flush=True)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
