"""Ending connections on every server of the broker.

A server keeps a connection that it admitted. So each server is asked for the connections of a user, and to end those.
That needs no memory, so any replica can do it, even one that has just started.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.task_set import TaskSet
from service.clock import FOR_EVER
from service.registry.broker_accounts import CLIENTS_ACCOUNT
from service.registry.registry import Registry

log = logging.getLogger("heirloom.callout")

ASK = "$SYS.REQ.SERVER.PING.CONNZ"
PAGE_SIZE = 256
KICK_DELAY_SECONDS = 0.5
"""A connection that became void still receives the replies to its requests for so long."""
ADMISSIONS_SETTLED_SECONDS = 7.0
"""After so long, no connection opens by a decision from before: a lease and the broker's time limit are over."""


class _Connected(msgspec.Struct):
    cid: int
    start: str
    authorized_user: str = ""
    account: str = ""


class Listed(NamedTuple):
    """A connection that a server lists. `start` is RFC 3339, by the server's clock."""

    server: str
    cid: int
    user: str
    start: str
    account: str = CLIENTS_ACCOUNT

    @property
    def began(self) -> datetime:
        """When it began, which is before its admission."""
        return datetime.fromisoformat(self.start)


class _Page(msgspec.Struct):
    connections: list[_Connected]


class _Server(msgspec.Struct):
    id: str


class _Reply(msgspec.Struct):
    server: _Server
    data: _Page


_decoder = msgspec.json.Decoder(_Reply)


def _ignore(_listed: Listed) -> None:
    """No connection is listed before somebody asks."""


class ServerConnections:
    """All connections to the broker: listed, and ended."""

    def __init__(self, connection: Connection, registry: Registry) -> None:
        self._connection = connection
        self._registry = registry
        self._inbox = connection.new_inbox()
        self._tasks = TaskSet()
        self._pages: set[int] = set()
        self._receive: Callable[[Listed], None] = _ignore

    async def start(self) -> None:
        """Subscribe to the servers' replies."""
        await self._connection.subscribe(f"{self._inbox}.end.>", cb=self._end_found)
        await self._connection.subscribe(f"{self._inbox}.list.*", cb=self._page_found)

    def end_void(self, tenant: str, client_id: str) -> None:
        """End the connections of a disabled client or revoked role, and end them again once that is known everywhere.

        If the client is enabled or the role added again meanwhile, only connections from before are ended.
        """
        self._tasks.start(self._end_void(f"{tenant}/{client_id}"))

    def end_user(self, user: str) -> None:
        """End the connections of a user of the broker, whose name `Callout` or `TokenConnection.user` gave."""
        self._tasks.start(self._ask_to_end(user))

    async def list_all(self, receive: Callable[[Listed], None]) -> None:
        """Ask the servers for all connections: `receive` is called with each one as their answers arrive.

        A connection that begins or ends meanwhile may be missing.
        """
        self._receive = receive
        self._pages.clear()
        await self._ask_for_page(0)

    async def kick(self, listed: Listed) -> None:
        """End one connection."""
        try:
            await self._kick(listed)
        except NatsError as error:
            log.warning("a connection is not ended: %s", type(error).__name__)

    async def _kick(self, listed: Listed) -> None:
        # a server ignores a request without a reply subject, though nobody subscribes to this one
        subject, kicked = f"$SYS.REQ.SERVER.{listed.server}.KICK", f"{self._inbox}.ended"
        await self._connection.publish(subject, msgspec.json.encode({"cid": listed.cid}), reply=kicked)

    async def stop(self) -> None:
        """Cancel what is still to be ended."""
        await self._tasks.cancel()

    async def _end_void(self, user: str) -> None:
        for seconds in (KICK_DELAY_SECONDS, ADMISSIONS_SETTLED_SECONDS):
            await asyncio.sleep(seconds)
            await self._ask_to_end(user)

    async def _ask_to_end(self, user: str) -> None:
        await self._ask({"user": user}, f"end.{user.replace('/', '.')}")

    async def _ask_for_page(self, offset: int) -> None:
        if (
            offset not in self._pages
        ):  # every server with a full page leads to the same request, and all servers reply to it
            self._pages.add(offset)
            await self._ask({"offset": offset}, f"list.{offset}")

    async def _ask(self, which: dict[str, Any], reply: str) -> None:
        question = {"auth": True, "limit": PAGE_SIZE} | which
        try:
            await self._connection.publish(ASK, msgspec.json.encode(question), reply=f"{self._inbox}.{reply}")
        except NatsError as error:
            log.warning("the broker is not asked who is connected: %s", type(error).__name__)

    async def _end_found(self, message: Msg) -> None:
        user = "/".join(message.subject.removeprefix(f"{self._inbox}.end.").split("."))
        tenant, client_id, *token = user.split("/")
        until = FOR_EVER if token else self._registry.void_until(tenant, client_id)
        found = _listed(message.data)
        void = [listed for listed in found if until is not None and listed.began <= until]
        for listed in void:
            await self._kick(listed)
        if void:
            log.info(
                "connections are ended: their client is disabled, their role revoked, or their token void",
                extra={"tenant": tenant, "client": client_id, "count": len(void)},
            )
        if void and len(found) == PAGE_SIZE:  # the oldest come first, so the next page may hold more
            await self._ask_to_end(user)

    async def _page_found(self, message: Msg) -> None:
        found = _listed(message.data)
        for listed in found:
            self._receive(listed)
        if len(found) == PAGE_SIZE:
            await self._ask_for_page(int(message.subject.rpartition(".")[2]) + PAGE_SIZE)


def _listed(page: bytes) -> list[Listed]:
    reply = _decoder.decode(page)
    return [
        Listed(reply.server.id, connected.cid, connected.authorized_user, connected.start, connected.account)
        for connected in reply.data.connections
    ]
