"""A worker without an event loop (Celery, Django, Flask, cron) that shares a person's tokens with all its siblings.

python worker.py "$(heirloom url --client acme/web)" ~/.acme/alice
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from heirloom_client import FileStore
from heirloom_client.blocking import Client, TokenSource


def work(source: TokenSource) -> str:
    """One job. The token is the one that every thread and every sibling has, until it is stale."""
    token = source.token(min_ttl=30)
    return f"{token.token_type} token for {token.scope}"


def main(url: str, place: str) -> None:
    """Continue the family that a login has stored; see `microservice.py`."""
    with Client.connect(url, tenant="acme", client_id="web") as oauth, ThreadPoolExecutor(8) as threads:
        source = oauth.source(store=FileStore(place))
        for line in threads.map(work, [source] * 8):
            print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
