"""Ending connections to the broker, on every one of its servers.

Whom the servers let in, they keep until they are told otherwise: so each is asked who is connected as that user, and
told to end those connections. Asking needs no memory, so any replica does it, and one that has just started too.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.bus import Connection
from events.ending import end
from service.named_role import NamedRole
from service.registry import Registry

log = logging.getLogger("heirloom.callout")

ACCOUNT, PERSONS_ACCOUNT = "USERS", "PERSONS"
"""Where clients live on the broker, and who came with a person's token; their users' names are told apart from others'
by the tenant's, before a slash."""
ASK = "$SYS.REQ.SERVER.PING.CONNZ"
AT_ONCE = 256
TOLD_SECONDS = 0.5
"""Who has just lost the right to be connected still hears so: what he has asked, or asks at once, is answered."""
AGAIN_SECONDS = 7.0
"""Later than that, nobody is let in by an answer from before: a lease and the broker's patience are over."""


class _Connected(msgspec.Struct):
    cid: int
    authorized_user: str = ""
    start: str = ""
    account: str = ""


class Listed(NamedTuple):
    """One connection: where it is, whose, since when (RFC 3339, the server's clock), and in which account."""

    server: str
    cid: int
    user: str
    start: str
    account: str = ACCOUNT


class _Page(msgspec.Struct):
    connections: list[_Connected]


class _Server(msgspec.Struct):
    id: str


class _Reply(msgspec.Struct):
    server: _Server
    data: _Page


_decoder = msgspec.json.Decoder(_Reply)


class Connections:
    """All there are to the broker, of registered clients.

    `when_listed` hears whose each is that `list_all` finds, and `when_counted` receives each that `count_all` finds.
    """

    def __init__(self, connection: Connection, registry: Registry) -> None:
        self._connection = connection
        self._registry = registry
        self._inbox = connection.new_inbox()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pages: dict[str, set[int]] = {"list": set(), "count": set()}
        self.when_listed: Callable[[str], None] = lambda _user: None
        self.when_counted: Callable[[Listed], None] = lambda _listed: None

    async def start(self) -> None:
        """Listen for the servers' answers."""
        await self._connection.subscribe(f"{self._inbox}.end.>", cb=self._end_found)
        for kind in self._pages:
            await self._connection.subscribe(f"{self._inbox}.{kind}.*", cb=self._page_found)

    def end_client(self, tenant: str, client_id: str) -> None:
        """End a disabled client's, and those that come about while that is not yet known everywhere."""
        self._run(self._end_client(tenant, client_id))

    def end_role(self, named: NamedRole) -> None:
        """End a revoked role's, and those that come about while that is not yet known everywhere."""
        self._run(self._end_role(named))

    def end_user(self, user: str) -> None:
        """End those of that user. The broker's users are named by `callout` and by `holding`."""
        self._run(self._ask_to_end(user))

    async def list_all(self) -> None:
        """Look through all there are; one that comes or goes meanwhile may be passed over."""
        await self._look_through("list")

    async def count_all(self) -> None:
        """As `list_all`, for `when_counted`."""
        await self._look_through("count")

    async def kick(self, listed: Listed) -> None:
        """End that one."""
        try:
            await self._kick(listed.server, listed.cid)
        except NatsError as error:
            log.warning("a connection is not ended: %s", type(error).__name__)

    async def _kick(self, server: str, cid: int) -> None:
        # a server does nothing for those who do not ask for its answer, though nobody listens for it
        kicked = f"{self._inbox}.ended"
        await self._connection.publish(
            f"$SYS.REQ.SERVER.{server}.KICK", msgspec.json.encode({"cid": cid}), reply=kicked
        )

    async def stop(self) -> None:
        """End nothing more."""
        await end(self._tasks)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_client(self, tenant: str, client_id: str) -> None:
        user = f"{tenant}/{client_id}"
        await asyncio.sleep(TOLD_SECONDS)
        await self._ask_to_end(user)
        await asyncio.sleep(AGAIN_SECONDS)
        if self._registry.has_disabled(tenant, client_id):
            await self._ask_to_end(user)

    async def _end_role(self, named: NamedRole) -> None:
        await asyncio.sleep(TOLD_SECONDS)
        await self._ask_to_end(named.user)
        await asyncio.sleep(AGAIN_SECONDS)
        known = self._registry.roles(named.tenant).get(named.name)
        if known is not None and known.state.revoked:
            await self._ask_to_end(named.user)

    async def _ask_to_end(self, user: str) -> None:
        await self._ask({"user": user}, f"end.{user.replace('/', '.')}")

    async def _look_through(self, kind: str) -> None:
        self._pages[kind].clear()
        await self._ask_for_page(kind, 0)

    async def _ask_for_page(self, kind: str, offset: int) -> None:
        if offset not in self._pages[kind]:  # each server with a full page wants the next one, and all answer each
            self._pages[kind].add(offset)
            await self._ask({"offset": offset}, f"{kind}.{offset}")

    async def _ask(self, which: dict[str, Any], reply: str) -> None:
        question = {"auth": True, "limit": AT_ONCE} | which
        try:
            await self._connection.publish(ASK, msgspec.json.encode(question), reply=f"{self._inbox}.{reply}")
        except NatsError as error:
            log.warning("the broker is not asked who is connected: %s", type(error).__name__)

    async def _end_found(self, message: Msg) -> None:
        user = "/".join(message.subject.removeprefix(f"{self._inbox}.end.").split("."))
        reply = _decoder.decode(message.data)
        for connected in reply.data.connections:
            await self._kick(reply.server.id, connected.cid)
        if reply.data.connections:
            tenant, client_id, *_ = user.split("/")
            log.info(
                "connections are ended: their client is disabled, their role revoked, or their token void",
                extra={"tenant": tenant, "client": client_id, "count": len(reply.data.connections)},
            )
        if len(reply.data.connections) == AT_ONCE:
            await self._ask_to_end(user)

    async def _page_found(self, message: Msg) -> None:
        *_, kind, offset = message.subject.split(".")
        reply = _decoder.decode(message.data)
        for connected in reply.data.connections:
            if kind == "list":
                self.when_listed(connected.authorized_user)
            else:
                listed = Listed(
                    reply.server.id, connected.cid, connected.authorized_user, connected.start, connected.account
                )
                self.when_counted(listed)
        if len(reply.data.connections) == AT_ONCE:
            await self._ask_for_page(kind, int(offset) + AT_ONCE)
