"""The audit queries on the bus (CONTRACT §5): `audit.<tenant>.<query>`."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from events.bus.faststream_broker import Broker, serve
from events.fairness.fair_queue import Limits, NoRoom, Turns
from events.fairness.request_gate import Asker
from events.log.stream import JetStreamMissing
from projections.decoded_commit import microseconds
from projections.pagination import BadCursor
from projections.progress import PATIENCE_SECONDS, Progress
from projections.queries import lists, period
from projections.queries.as_of import as_of, diff
from projections.queries.blast_radius import blast_radius
from projections.queries.family_timeline import family
from projections.queries.requests import (
    QUEUE,
    AsOfRequest,
    DiffRequest,
    FamiliesRequest,
    FamilyRequest,
    PeriodRequest,
    ReasonRequest,
    Refused,
    Request,
    SearchRequest,
    SubjectRequest,
    TokenRequest,
    decode,
)
from projections.queries.subject_history import subject
from projections.queries.token_validity import token
from projections.read_model import open_for_queries

log = logging.getLogger("heirloom.audit")

R = TypeVar("R", bound=Request)
Answer = dict[str, Any]
Query = Callable[[Asker, bytes], Awaitable[bytes]]

QUERIES: dict[str, tuple[type[Request], Callable[..., Answer]]] = {
    "family": (FamilyRequest, family),
    "families": (FamiliesRequest, lists.families),
    "revocations": (ReasonRequest, lists.revocations),
    "incidents": (ReasonRequest, lists.incidents),
    "token": (TokenRequest, token),
    "as_of": (AsOfRequest, as_of),
    "diff": (DiffRequest, diff),
    "subject": (SubjectRequest, subject),
    "blast_radius": (FamilyRequest, blast_radius),
    "activity": (PeriodRequest, period.activity),
    "search": (SearchRequest, period.search),
}
"""What is asked of the read model alone: `(db, tenant, request, limit, now in microseconds)` → the answer."""

QUESTIONS_PER_SECOND = 500
"""About one tenant, at each projector."""
LIMITS = Limits(at_once=4, of_tenant=3, of_client=2, waiting=2_048, waiting_of_tenant=500, waiting_of_client=256)
"""Questions being looked up, and waiting for that: in all, of a tenant, and of one kind about a tenant.

One that waits for its sequence holds no place.
"""
OWN = Limits(at_once=2, of_tenant=2, of_client=1, waiting=2_048, waiting_of_tenant=512, waiting_of_client=512)
"""The same for what the service itself asks: beside all others', on connections and in turns of its own."""
MAX_REPLY = 900 * 1024
"""The broker takes messages of 1 MiB; longer answers come in more pages, and what has no pages is refused."""


class Audit:
    """Answers from a read model that is as far as `progress` says. `log_end` gives the log's last sequence.

    `others` are queries that are answered otherwise: `(asker, body)` → the reply; they may raise `Refused`.
    """

    def __init__(
        self, progress: Progress, log_end: Callable[[], Awaitable[int]], others: Mapping[str, Query] | None = None
    ) -> None:
        self._progress = progress
        self._log_end = log_end
        self._connections: asyncio.Queue[sqlite3.Connection] | None = None
        self._turns, self._own_turns = Turns(LIMITS), Turns(OWN)
        asked = {name: partial(self._ask, name) for name in QUERIES}
        self._queries: dict[str, Query] = {**asked, **(others or {}), "position": self._position}

    def open(self, path: Path) -> None:
        """Answer from this file from now on."""
        connections: asyncio.Queue[sqlite3.Connection] = asyncio.Queue()
        for _ in range(LIMITS.at_once + OWN.at_once):
            connections.put_nowait(open_for_queries(path))
        self._connections = connections

    async def swap(self, path: Path) -> None:
        """Answer from this file from now on, and let go of the one before."""
        before = self._connections
        self.open(path)
        await _let_go(before)

    async def close(self) -> None:
        """Give the file free, once the queries under way are through."""
        before, self._connections = self._connections, None
        await _let_go(before)

    def serve(self, broker: Broker) -> None:
        """Answer every query on the broker."""
        for query in self._queries:
            serve(broker, f"audit.*.{query}", self.answer, queue=QUEUE)

    async def answer(self, subject: str, body: bytes, asker: Asker) -> tuple[bytes, dict[str, str]]:
        """The reply's body and headers for a request on `audit.<tenant>.<query>`. Raises nothing."""
        query = subject.rpartition(".")[2]
        try:
            return _sendable(await self._queries[query](asker, body)), {}
        except Refused as refused:
            refusal = refused
        except NoRoom:
            refusal = Refused("temporarily_unavailable", "too many questions about this tenant wait; ask again", 503)
        except BadCursor:
            refusal = Refused("invalid_request", "the cursor does not belong to this query")
        except JetStreamMissing:
            refusal = Refused("temporarily_unavailable", "the log does not answer", 503)
        except Exception:
            log.exception("an audit query failed", extra={"subject": subject})
            refusal = Refused("server_error", "the query failed; the service's log says more", 503)
        return refusal.body(), refusal.headers()

    async def _ask(self, name: str, asker: Asker, body: bytes) -> bytes:
        kind, query = QUERIES[name]
        request = await self._receive(body, kind)
        limit: int = getattr(request, "limit", 1)
        turns = self._own_turns if asker.is_own else self._turns
        async with turns.of((asker.tenant, name)):
            return await self._look_up(lambda db, limit: query(db, asker.tenant, request, limit, _now()), limit)

    async def _position(self, _asker: Asker, body: bytes) -> bytes:
        await self._receive(body, Request)
        applied = self._progress.applied
        end = max(await self._log_end(), applied)
        answer: Answer = {"applied_seq": applied, "log_seq": end, "lag": end - applied}
        if self._progress.obstacle is not None:
            answer["obstacle"] = self._progress.obstacle
        return msgspec.json.encode(answer)

    async def _receive(self, body: bytes, kind: type[R]) -> R:
        request = decode(body, kind)
        if request.min_seq is not None and not await self._progress.reach(request.min_seq, PATIENCE_SECONDS):
            why = self._progress.obstacle or f"it is at sequence {self._progress.applied}"
            raise Refused("temporarily_unavailable", f"the read model has not reached min_seq: {why}", 503)
        return request

    async def _look_up(self, look_up: Callable[[sqlite3.Connection, int], Answer], limit: int) -> bytes:
        connections = self._connections
        if connections is None:
            why = self._progress.obstacle or "it is being built"
            raise Refused("temporarily_unavailable", f"there is no read model to ask now: {why}", 503)
        connection = await connections.get()
        try:
            return await asyncio.to_thread(_fitting, connection, look_up, limit)
        except sqlite3.DatabaseError as error:
            if (matter := _what_is_the_matter(str(error))) is None:
                raise
            log.error("the read model cannot be asked: %s", error)
            raise Refused("temporarily_unavailable", matter, 503) from error
        finally:
            connections.put_nowait(connection)


def _what_is_the_matter(error: str) -> str | None:
    """With a file that SQLite calls so, and what to do; None where it is not the file."""
    if error.startswith("no such "):  # column or table, in a file of an older version
        return "what this needs is being built"
    if "malformed" in error or "not a database" in error:
        return "the read model is damaged; without its file, the projector builds it anew when it starts"
    return None


async def _let_go(connections: asyncio.Queue[sqlite3.Connection] | None) -> None:
    if connections is not None:
        for _ in range(LIMITS.at_once + OWN.at_once):
            (await connections.get()).close()


def _sendable(reply: bytes) -> bytes:
    """The reply. Raises `Refused` for one that is too large for a message and could not be made smaller."""
    if len(reply) > MAX_REPLY:
        raise Refused("server_error", "the answer is too large for one message", 503)
    return reply


def _fitting(db: sqlite3.Connection, look_up: Callable[[sqlite3.Connection, int], Answer], limit: int) -> bytes:
    """The answer, with as many items as a message can hold, all seen at one moment."""
    db.execute("BEGIN")
    try:
        while True:
            answer = msgspec.json.encode(look_up(db, limit))
            if len(answer) <= MAX_REPLY or limit == 1:
                return answer
            limit = max(limit * MAX_REPLY // (len(answer) * 2), 1)
    finally:
        db.execute("ROLLBACK")


def _now() -> int:
    return microseconds(datetime.now(UTC))
