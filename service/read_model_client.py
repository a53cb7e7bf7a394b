"""The service's queries to the read model over the bus (CONTRACT §5): families that live, or that a cut-off ended."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from nats.errors import Error as NatsError

from events.aggregates.family import CLIENT_GRANT
from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from service.decide.cut_off import CutOff

P = TypeVar("P", bound=msgspec.Struct)

REPLY_TIMEOUT_SECONDS = 6
PAGE_SIZE = 1000
LEEWAY_SECONDS = 5
"""A token that has expired by the read model's clock may be valid by another, or for a request that began before."""


class LiveFamily(msgspec.Struct):
    """A family that lives, as of the sequence that the query named."""

    family_id: str
    client_id: str
    opened_seq: int
    grant: str


class RevokedFamily(msgspec.Struct):
    """A family that was revoked, and its cause."""

    family_id: str
    at: datetime
    cause: str | None = None


class _LiveFamilies(msgspec.Struct):
    items: list[LiveFamily]
    cursor: str | None


class _RevokedFamilies(msgspec.Struct):
    items: list[RevokedFamily]
    cursor: str | None


class ReadModelClient:
    """Queries the read model through one connection. Every query names the sequence that its result must include."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def live(
        self, tenant: str, sub: str | None, client_id: str | None, min_seq: int, limit: int = PAGE_SIZE
    ) -> AsyncIterator[list[LiveFamily]]:
        """The families with a token that may be valid, page by page; a page may be empty. Raises `Unavailable`.

        With a `sub`, only a person's families, and not those of a client of the same name (RFC 9700 §4.15).
        """
        query = {"sub": sub, "client_id": client_id, "status": "live", "leeway": LEEWAY_SECONDS}
        query |= {"min_seq": min_seq, "limit": limit}
        cursor: str | None = None
        while True:
            page = await self._ask(f"audit.{tenant}.families", query | {"cursor": cursor}, _LiveFamilies)
            yield [family for family in page.items if sub is None or family.grant != CLIENT_GRANT]
            if (cursor := page.cursor) is None:
                return

    async def ended(self, tenant: str, cut_off: CutOff, min_seq: int) -> int:
        """How many families ended by this cut-off. Raises `Unavailable`."""
        query = {"sub": cut_off.sub, "client_id": cut_off.client_id, "reason": cut_off.reason, "min_seq": min_seq}
        cursor: str | None = None
        count = 0
        while True:
            query |= {"limit": PAGE_SIZE, "cursor": cursor}
            page = await self._ask(f"audit.{tenant}.revocations", query, _RevokedFamilies)
            count += sum(item.cause == cut_off.cause for item in page.items)
            if (cursor := page.cursor) is None:
                return count

    async def _ask(self, subject: str, parameters: dict[str, Any], kind: type[P]) -> P:
        given = {name: value for name, value in parameters.items() if value is not None}
        try:
            reply = await self._connection.request(subject, msgspec.json.encode(given), timeout=REPLY_TIMEOUT_SECONDS)
        except NatsError as error:
            raise Unavailable("the read model does not answer") from error
        if reply.headers and "Nats-Service-Error" in reply.headers:
            raise Unavailable(f"the read model refuses: {reply.headers['Nats-Service-Error']}")
        return msgspec.json.decode(reply.data, type=kind)
