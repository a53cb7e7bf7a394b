"""A resource server's connection: it hears what becomes of tokens, and asks for none."""

from collections.abc import Sequence
from typing import Any, Self

from heirloom_client.connections import Connections
from heirloom_client.endpoint import Endpoints
from heirloom_client.link import Link


class Resource:
    """The role `resource` in one tenant; `Client.connect` without a `client_id` makes it. For `Verifier.follow`."""

    def __init__(self, connections: Connections, tenant: str, seconds: float) -> None:
        self.tenant = tenant
        self.seconds = seconds
        self._connections = connections
        self._own = Endpoints(connections, f"oauth.{tenant}.resource", seconds)

    async def __aenter__(self) -> Self:
        """Open the connection. Raises `InvalidClient` and `Unavailable`."""
        await self.link()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the running event loop's connection."""
        await self._connections.close()

    async def link(self) -> Link:
        """The open connection of the running event loop. Raises `InvalidClient` and `Unavailable`."""
        return await self._own.link()

    async def revocations(self, link: Link, after: int, feed: str, kind: type[Any]) -> Any:
        """A page of the revocation feed, asked for on that connection (contract §8). Raises as `Endpoints.send`."""
        parameters = {"after": after, "feed": feed or None}
        return await self._own.send(link, "revocations", parameters, kind, key=None, seconds=self.seconds)

    def __repr__(self) -> str:
        return f"Resource(tenant={self.tenant!r})"


def addresses_of(url: str | Sequence[str]) -> list[str]:
    """Each address: of one text, several, or several in one text with commas."""
    urls = [url] if isinstance(url, str) else url
    return [address.strip() for each in urls for address in each.split(",")]
