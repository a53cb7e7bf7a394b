"""Connections that an access token opened, and their end with the token's revocation (RFC 7009 §2.1).

The broker's user of such a connection is named for the token, so whoever knows the name can have it ended. Every
replica hears of what is revoked, and knows the names: of those it let in, and of all that the servers list
(`service.connections.connection_counts`), at its start first of all. So it does not matter which replica is gone.
"""

import asyncio
import logging
from datetime import datetime
from typing import NamedTuple

from events.aggregates.commit import UnreadableCommit
from events.aggregates.family import FamilyState, codec
from events.bus.connection import Connection
from events.log.log import Unavailable
from events.log.stream import REVOKED_STORED
from events.task_set import TaskSet
from service import clock
from service.connections.disconnect import ADMISSIONS_SETTLED_SECONDS, KICK_DELAY_SECONDS, Listed, ServerConnections
from service.families.families import Families
from service.registry.registry import Registry

log = logging.getLogger("heirloom.callout")

AS_PERSON = "person:"
"""Before a family's id, where others have a client_id: no client could be called so."""


class TokenConnection(NamedTuple):
    """Whose token it is, of which family, its `jti`, and when it ends (a NumericDate)."""

    tenant: str
    client_id: str
    family_id: str
    jti: str
    until: int

    @property
    def user(self) -> str:
        """The name on the broker."""
        return "/".join(map(str, self))

    @property
    def person(self) -> str:
        """As whom it is counted where it is a person's, and not its client's: no client could be called so.

        By the family, so that a new token is not room for more connections.
        """
        return f"{AS_PERSON}{self.family_id}"

    @classmethod
    def of(cls, user: str) -> "TokenConnection | None":
        """What the name tells; None for a client that came with another proof."""
        match user.split("/"):
            case tenant, client_id, family_id, jti, until:
                return cls(tenant, client_id, family_id, jti, int(until))
            case _:
                return None


class TokenConnections:
    """Those of the connections that are open, and of a few that were."""

    def __init__(self, families: Families, registry: Registry, connections: ServerConnections) -> None:
        self._families = families
        self._registry = registry
        self._connections = connections
        self._known: dict[tuple[str, str], set[TokenConnection]] = {}
        self._tasks = TaskSet()

    async def start(self, connection: Connection) -> None:
        """Hear of revocations from now on. The connections that are there already are listed after that."""
        await connection.listen(REVOKED_STORED, self._heard)
        await connection.flush()
        self._tasks.start(self._look_after_reconnecting(connection))

    def opened(self, token_connection: TokenConnection) -> None:
        """A connection is about to be let in with that token."""
        self._remember(token_connection)
        # a revocation may have been heard of before there was a connection to end
        self._tasks.start(self._end_if_void(token_connection, clock.now(), ADMISSIONS_SETTLED_SECONDS))

    def end_client(self, tenant: str, client_id: str) -> None:
        """A client is disabled: what it holds is void, also in a family that another client began (RFC 8693)."""
        for token_connection in self._all():
            if (token_connection.tenant, token_connection.client_id) == (tenant, client_id):
                self._end_soon(token_connection)

    async def stop(self) -> None:
        """End nothing more."""
        await self._tasks.cancel()

    async def _look_after_reconnecting(self, connection: Connection) -> None:
        """What was revoked while there was no connection has not been heard of."""
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
        if token_connection is not None and token_connection not in self._known.get(
            (token_connection.tenant, token_connection.family_id), ()
        ):
            self._remember(token_connection)
            self._tasks.start(self._end_if_void(token_connection, listed.began))

    def _all(self) -> list[TokenConnection]:
        return [token_connection for family in self._known.values() for token_connection in family]

    def _heard(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        _, tenant, family_id = subject.decode().split(".")
        held = self._known.get((tenant, family_id))
        if held is None:
            return
        try:
            state = codec.decode(body).state
        except UnreadableCommit as error:
            log.error("a revocation of family %s cannot be read: %s", family_id, error)
            return
        for token_connection in held:
            if _is_void(token_connection, state):
                self._end_soon(token_connection)

    async def _end_if_void(self, token_connection: TokenConnection, began: datetime, seconds: float = 0) -> None:
        """Look after so many seconds, and again while the log's leader does not answer; the connection `began` then."""
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
        held = self._known.setdefault((token_connection.tenant, token_connection.family_id), set())
        if token_connection in held:  # who connects again and again has one timer
            return
        held.add(token_connection)
        seconds = token_connection.until - clock.now().timestamp()
        asyncio.get_running_loop().call_later(max(seconds, 0), self._forget, token_connection)

    def _forget(self, token_connection: TokenConnection) -> None:
        family = token_connection.tenant, token_connection.family_id
        held = self._known.get(family, set())
        held.discard(token_connection)
        if not held:
            self._known.pop(family, None)


def _is_void(token_connection: TokenConnection, state: FamilyState) -> bool:
    return state.revoked is not None or token_connection.jti in state.revoked_jtis
