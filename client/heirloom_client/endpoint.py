"""A request to an endpoint and its answer, as the contract has them (section 2): JSON both ways, errors in the body."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from heirloom_client.connections import Connections
from heirloom_client.errors import Error, ServerError, TemporarilyUnavailable, Unavailable, by_code
from heirloom_client.link import ConnectionLost, Link

T = TypeVar("T")


class Endpoints:
    """Sends requests below one subject, each answered or refused within `seconds`."""

    def __init__(self, connections: Connections, prefix: str, seconds: float) -> None:
        self._connections = connections
        self._prefix = prefix
        self.seconds = seconds

    async def ask(
        self,
        endpoint: str,
        parameters: Mapping[str, Any],
        kind: type[T],
        *,
        key: str | None = None,
        again: bool = True,
    ) -> T:
        """The answer to `parameters`; those that are None are left out. `key` is the `Idempotency-Key`.

        A request that was refused for want of time is sent again. One whose connection was lost, only with `again`:
        it may have been carried out. Raises the `Error` that the service answered, `NotPermitted` and `Unavailable`.
        """
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self.seconds, 0.05
        while True:
            try:
                return await self._once(endpoint, parameters, kind, key, deadline - loop.time())
            except (TemporarilyUnavailable, ConnectionLost) as error:
                may = again if isinstance(error, ConnectionLost) else True
                if not may or loop.time() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)
            pause *= 2

    async def _once(
        self, endpoint: str, parameters: Mapping[str, Any], kind: type[T], key: str | None, seconds: float
    ) -> T:
        began = asyncio.get_running_loop().time()
        link = await self._connections.link(seconds)
        left = seconds - (asyncio.get_running_loop().time() - began)
        if left <= 0:
            raise Unavailable("opening the connection has taken all the time")
        return await self.send(link, endpoint, parameters, kind, key=key, seconds=left)

    async def send(  # one request, each part by its name
        self,
        link: Link,
        endpoint: str,
        parameters: Mapping[str, Any],
        kind: type[T],
        *,
        key: str | None,
        seconds: float,
    ) -> T:
        """Send a request once, on this connection and no other. Raises as `ask`, and `ConnectionLost`."""
        given = {name: value for name, value in parameters.items() if value is not None}
        body = msgspec.json.encode(given, order="deterministic")
        headers = {} if key is None else {"Idempotency-Key": key}
        reply = await link.request(f"{self._prefix}.{endpoint}", body, headers, seconds)
        return _decoded(reply.data, reply.headers or {}, kind)

    async def link(self) -> Link:
        """Wait until a connection is open. Raises as `Connections.link`."""
        return await self._connections.link(self.seconds)

    def __repr__(self) -> str:
        return f"Endpoints({self._prefix!r})"


def _decoded(body: bytes, headers: Mapping[str, str], kind: type[T]) -> T:
    if "Nats-Service-Error" in headers:
        raise _error(body, headers)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ServerError("the answer is not what the contract says; is this service's version known here?") from None


def _error(body: bytes, headers: Mapping[str, str]) -> Error:
    try:
        description = str(json.loads(body).get("error_description", ""))
    except (ValueError, AttributeError):
        description = ""
    status = headers.get("Nats-Service-Error-Code", "")
    return by_code(headers["Nats-Service-Error"], description, int(status) if status.isdigit() else 0)
