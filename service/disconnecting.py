"""Ending the connections of a client that is disabled, on every server of the broker.

Whom the servers let in, they keep until they are told otherwise: so each is asked who is connected as that client, and
told to end those connections. Asking needs no memory, so any replica does it, and one that has just started too.
"""

import asyncio
import logging

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.bus import Connection
from events.ending import end
from service.registry import Registry

log = logging.getLogger("heirloom.callout")

ACCOUNT = "USERS"
"""Where clients live on the broker."""
ASK = "$SYS.REQ.SERVER.PING.CONNZ"
AT_ONCE = 256
AGAIN_SECONDS = 7.0
"""Later than that, nobody is let in by an answer from before: a lease and the broker's patience are over."""


class _Connected(msgspec.Struct):
    cid: int


class _Page(msgspec.Struct):
    connections: list[_Connected]


class _Server(msgspec.Struct):
    id: str


class _Reply(msgspec.Struct):
    server: _Server
    data: _Page


_decoder = msgspec.json.Decoder(_Reply)


class Connections:
    """All there are to the broker, of registered clients."""

    def __init__(self, connection: Connection, registry: Registry) -> None:
        self._connection = connection
        self._registry = registry
        self._inbox = connection.new_inbox()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen for the servers' answers."""
        await self._connection.subscribe(f"{self._inbox}.*.*", cb=self._listed)

    def end(self, tenant: str, client_id: str) -> None:
        """End that client's, and those that come about while it is not yet known everywhere that they may not."""
        task = asyncio.create_task(self._end(tenant, client_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End nothing more."""
        await end(self._tasks)

    async def _end(self, tenant: str, client_id: str) -> None:
        await self._ask(tenant, client_id)
        await asyncio.sleep(AGAIN_SECONDS)
        if self._registry.has_disabled(tenant, client_id):
            await self._ask(tenant, client_id)

    async def _ask(self, tenant: str, client_id: str) -> None:
        who = {"acc": ACCOUNT, "auth": True, "user": f"{tenant}/{client_id}", "limit": AT_ONCE}
        try:
            await self._connection.publish(ASK, msgspec.json.encode(who), reply=f"{self._inbox}.{tenant}.{client_id}")
        except NatsError as error:
            log.warning("a disabled client's connections are not ended: %s", type(error).__name__)

    async def _listed(self, message: Msg) -> None:
        tenant, client_id = message.subject.split(".")[-2:]
        reply = _decoder.decode(message.data)
        for connected in reply.data.connections:
            kick = msgspec.json.encode({"cid": connected.cid})
            # a server does nothing for those who do not ask for its answer, though nobody listens for it
            kicked = f"{self._inbox}.ended"
            await self._connection.publish(f"$SYS.REQ.SERVER.{reply.server.id}.KICK", kick, reply=kicked)
        if reply.data.connections:
            log.info(
                "a disabled client's connections are ended",
                extra={"tenant": tenant, "client": client_id, "count": len(reply.data.connections)},
            )
        if len(reply.data.connections) == AT_ONCE:
            await self._ask(tenant, client_id)
