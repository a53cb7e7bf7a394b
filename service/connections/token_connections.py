"""Connections that an access token opened; they end when the token is revoked (RFC 7009 §2.1).

The broker's user of such a connection is named after the token, so whoever knows the name can end the connection. Every
replica receives all revocations, and knows the names of the connections that it admitted and of all that the servers
list (`service.connections.connection_counts`), for the first time when it starts. So any replica may be lost.
"""

import asyncio
import logging
from datetime import datetime
from typing import NamedTuple

from events.aggregates.commit import UnreadableCommit
from events.aggregates.family import FamilyState
from events.aggregates.family_commit import codec
from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from events.log.stream import REVOKED_STORED
from events.task_set import TaskSet
from service import clock
from service.connections.disconnect import ADMISSIONS_SETTLED_SECONDS, KICK_DELAY_SECONDS, Listed, ServerConnections
from service.families.families import Families
from service.registry.registry import Registry

log = logging.getLogger("heirloom.callout")

AS_PERSON = "person:"
"""With a family's id, it stands for a person in the place of a `client_id`; no client's contains a colon."""


class TokenConnection(NamedTuple):
    """The token's client, family and `jti`, and when it expires (`until`, a NumericDate)."""

    tenant: str
    client_id: str
    family_id: str
    jti: str
    until: int

    @property
    def user(self) -> str:
        """The name of the connection's user at the broker."""
        return "/".join(map(str, self))

    @property
    def person(self) -> str:
        """The name under which a person's connections are counted: the same for all tokens of the family."""
        return f"{AS_PERSON}{self.family_id}"

    @property
    def family(self) -> tuple[str, str]:
        """Tenant and family id."""
        return self.tenant, self.family_id

    @classmethod
    def of(cls, user: str) -> "TokenConnection | None":
        """Parse the name of a user; None for a client that was admitted by another proof."""
        match user.split("/"):
            case tenant, client_id, family_id, jti, until:
                return cls(tenant, client_id, family_id, jti, int(until))
            case _:
                return None


class TokenConnections:
    """The open connections that are known here, and a few that have ended. Ends those whose token is void."""

    def __init__(self, families: Families, registry: Registry, connections: ServerConnections) -> None:
        self._families = families
        self._registry = registry
        self._connections = connections
        self._known: dict[tuple[str, str], set[TokenConnection]] = {}
        self._tasks = TaskSet()

    async def start(self, connection: Connection) -> None:
        """Subscribe to revocations. The connections that are open already must be listed after that."""
        await connection.listen(REVOKED_STORED, self._receive)
        await connection.flush()
        self._tasks.start(self._look_after_reconnecting(connection))

    def opened(self, token_connection: TokenConnection) -> None:
        """Remember a connection that is about to open."""
        self._remember(token_connection)
        # the revocation may have been received before the connection was open
        self._tasks.start(self._end_if_void(token_connection, clock.now(), ADMISSIONS_SETTLED_SECONDS))

    def end_client(self, tenant: str, client_id: str) -> None:
        """End the connections of a disabled client's tokens, also of another client's family (RFC 8693)."""
        for token_connection in self._all():
            if (token_connection.tenant, token_connection.client_id) == (tenant, client_id):
                self._end_soon(token_connection)

    async def stop(self) -> None:
        """Cancel what is still to be ended."""
        await self._tasks.cancel()

    async def _look_after_reconnecting(self, connection: Connection) -> None:
        """Check all tokens after a reconnection: revocations meanwhile were not received."""
        known = connection.stats["reconnects"]
        while True:
            await asyncio.sleep(ADMISSIONS_SETTLED_SECONDS)
            if connection.stats["reconnects"] != known:
                known = connection.stats["reconnects"]
                for token_connection in self._all():
                    self._tasks.start(self._end_if_void(token_connection, clock.now()))

    def listed(self, listed: Listed) -> None:
        """Remember a connection that the servers list, and end it if its token is void.

        One that is known here already ends with its revocation.
        """
        token_connection = TokenConnection.of(listed.user)
        if token_connection is not None and token_connection not in self._known.get(token_connection.family, ()):
            self._remember(token_connection)
            self._tasks.start(self._end_if_void(token_connection, listed.began))

    def _all(self) -> list[TokenConnection]:
        return [token_connection for family in self._known.values() for token_connection in family]

    def _receive(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        _, tenant, family_id = subject.decode().split(".")
        connections = self._known.get((tenant, family_id))
        if connections is None:
            return
        try:
            state = codec.decode(body).state
        except UnreadableCommit as error:
            log.error("a revocation of family %s cannot be read: %s", family_id, error)
            return
        for token_connection in connections:
            if _is_void(token_connection, state):
                self._end_soon(token_connection)

    async def _end_if_void(self, token_connection: TokenConnection, began: datetime, seconds: float = 0) -> None:
        """End the connection, which `began` then, if its token is void in the log.

        Reads the log after so many seconds, and again until the log's leader answers.
        """
        while True:
            await asyncio.sleep(seconds)
            try:
                state = (await self._families.load(token_connection.tenant, token_connection.family_id)).state
            except Unavailable:
                seconds = ADMISSIONS_SETTLED_SECONDS
                continue
            until = self._registry.void_until(token_connection.tenant, token_connection.client_id)
            if (until is not None and began <= until) or state is None or _is_void(token_connection, state):
                self._end(token_connection)
            return

    def _end_soon(self, token_connection: TokenConnection) -> None:
        asyncio.get_running_loop().call_later(KICK_DELAY_SECONDS, self._end, token_connection)

    def _end(self, token_connection: TokenConnection) -> None:
        self._forget(token_connection)
        self._connections.end_user(token_connection.user)

    def _remember(self, token_connection: TokenConnection) -> None:
        connections = self._known.setdefault(token_connection.family, set())
        if token_connection in connections:  # a token that connects often has one timer
            return
        connections.add(token_connection)
        seconds = token_connection.until - clock.now().timestamp()
        asyncio.get_running_loop().call_later(max(seconds, 0), self._forget, token_connection)

    def _forget(self, token_connection: TokenConnection) -> None:
        connections = self._known.get(token_connection.family, set())
        connections.discard(token_connection)
        if not connections:
            self._known.pop(token_connection.family, None)


def _is_void(token_connection: TokenConnection, state: FamilyState) -> bool:
    return state.revoked is not None or token_connection.jti in state.revoked_jtis
