"""The OAuth endpoints on the bus: a NATS micro service in a queue group (CONTRACT §2)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from nats.micro import add_service
from nats.micro.request import Request as MicroRequest
from nats.micro.service import EndpointStats, Service

from events.bus.connection import as_text
from service.accounts import AccountConnection
from service.endpoints.endpoint_table import endpoints
from service.received_request import Endpoint, Received, Row
from service.request_handler import RequestHandler

Around = Callable[[str, Endpoint], Endpoint]
"""Wraps an endpoint, given the name of its row."""

QUEUE = "heirloom"
LATE_SECONDS, LOOKS = 0.2, 10
"""How long a drain waits for the broker's last requests, and in how many parts. Each part begins with a round trip to
the broker, so the wait is longer where the broker or this replica is slow."""


def as_it_is(_name: str, endpoint: Endpoint) -> Endpoint:
    """The endpoint without a wrapper."""
    return endpoint


class Server:
    """Receives the requests of every account, also while it drains, and passes each to `handler`."""

    def __init__(
        self, accounts: Sequence[AccountConnection], handler: RequestHandler, version: str, around: Around = as_it_is
    ) -> None:
        self._accounts = accounts
        self._handler = handler
        self._version = version
        self._around = around
        self._services: list[tuple[AccountConnection, Service]] = []

    async def start(self) -> None:
        """Subscribe to every endpoint. Returns when the broker has all subscriptions."""
        rows = {name: row._replace(handle=self._around(name, row.handle)) for name, row in endpoints().items()}
        for account in self._accounts:
            service = await add_service(
                account.connection,
                name="heirloom",
                version=self._version,
                description="OAuth 2.0 tokens; every decision is an event in the log",
                queue_group=QUEUE,
                stats_handler=self._stats,
            )
            self._services.append((account, service))
            for name in account.callers.rows:
                await self._listen(account, service, rows[name])
            await account.connection.flush()

    async def drain(self) -> None:
        """Receive no new request, and answer every one already received."""
        # the service's own stop() drops requests that the broker has already sent. One that it was sending just then
        # arrives a moment after it has confirmed the unsubscribe, so the subscriptions stay a little longer
        subscriptions = []
        for account, service in self._open():
            listening = [endpoint._subscription for endpoint in service._endpoints]  # noqa: SLF001
            for subscription in listening:
                await account.connection._send_unsubscribe(subscription._id)  # noqa: SLF001
            subscriptions += listening
        for _ in range(LOOKS):
            await self._flush()
            await asyncio.sleep(LATE_SECONDS / LOOKS)
        await asyncio.gather(*(subscription.drain() for subscription in subscriptions))
        await self._flush()
        while not self._handler.is_idle:
            await self._handler.settled()
            await self._handler.refused()
            await self._flush()  # publishes the answers; requests that arrived before that are under way now

    async def _flush(self) -> None:
        """Return when the broker has answered on every connection."""
        await asyncio.gather(*(account.connection.flush() for account, _ in self._open()))

    def _open(self) -> list[tuple[AccountConnection, Service]]:
        """The services whose connection the broker has not ended for good."""
        return [each for each in self._services if not each[0].connection.is_closed]

    async def _listen(self, account: AccountConnection, service: Service, row: Row) -> None:
        """Make the endpoint known as a micro service's, and receive its requests without that one's queue and task."""
        handle, connection = self._handler.receive, account.connection

        def receive(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
            handle(account, Received(row, connection, as_text(subject), as_text(reply), body, headers))

        async def early(request: MicroRequest) -> None:  # it arrived before the raw handler was set
            message = request._msg  # noqa: SLF001
            handle(account, Received(row, connection, message.subject, message.reply, message.data, message.headers))

        await service.add_endpoint(name=row.name, subject=row.subject, handler=early)
        connection.set_raw_handler(service._endpoints[-1]._subscription, receive)  # noqa: SLF001

    def _stats(self, endpoint: EndpointStats) -> Any:
        """The figures of one endpoint for `nats micro stats`: its answer times and outcomes."""
        return self._handler.figures[endpoint.name].report_to(endpoint)
