"""A resource server: it verifies access tokens by itself, and hears of revocations when they happen.

python resource.py "$(heirloom url --role resource)" https://acme.example < tokens, one a line
"""

import asyncio
import sys

from heirloom_client import Client, InvalidToken, Stale, Verifier


def answer(verifier: Verifier, token: str) -> str:
    """What a request with this token gets: an HTTP status, and why."""
    try:
        claims = verifier.verify(token)
    except InvalidToken as error:
        return f"401 {error.description}"
    except Stale as error:
        return f"503 {error.description}"
    if "read" not in claims.scopes:
        return "403 it may not read"
    return f"200 hello {claims.sub}"


async def main(url: str, audience: str) -> None:
    """Answer each token that comes in."""
    async with (
        Client.connect(url, tenant="acme") as resource,
        await Verifier.follow(resource, audience=audience) as verifier,
    ):
        print("fresh" if verifier.fresh else "stale", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(answer(verifier, line.strip()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
