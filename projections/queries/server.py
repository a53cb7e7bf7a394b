"""The audit queries on the bus (contract §5): subjects `audit.<tenant>.<query>`."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from events.bus.faststream_broker import Broker, serve
from events.fairness.fair_queue import Limits, NoRoom, Turns
from events.fairness.request_gate import GateKey
from events.log.jetstream_api import JetStreamMissing
from projections.decoded_commit import microseconds
from projections.pagination import BadCursor
from projections.progress import MIN_SEQ_TIMEOUT_SECONDS, Progress
from projections.queries import lists, period
from projections.queries.as_of import as_of
from projections.queries.blast_radius import blast_radius
from projections.queries.diff import diff
from projections.queries.family_timeline import family
from projections.queries.query import Answer, Query, QueryContext, query
from projections.queries.requests import (
    QUEUE,
    AsOfRequest,
    AuditRequest,
    DiffRequest,
    FamiliesRequest,
    FamilyRequest,
    IncidentListRequest,
    PeriodRequest,
    QueryRefused,
    RevocationListRequest,
    SearchRequest,
    SubjectHistoryRequest,
    TokenValidityRequest,
    UnknownTenant,
    decode,
)
from projections.queries.subject_history import subject
from projections.queries.token_validity import token
from projections.read_model import open_for_queries

log = logging.getLogger("heirloom.audit")

R = TypeVar("R", bound=AuditRequest)
Handler = Callable[[GateKey, bytes], Awaitable[bytes]]
"""Answers a request's body; may raise `QueryRefused`."""

QUERIES: dict[str, Query] = {
    "family": query(FamilyRequest, family),
    "families": query(FamiliesRequest, lists.families),
    "revocations": query(RevocationListRequest, lists.revocations),
    "incidents": query(IncidentListRequest, lists.incidents),
    "token": query(TokenValidityRequest, token),
    "as_of": query(AsOfRequest, as_of),
    "diff": query(DiffRequest, diff),
    "subject": query(SubjectHistoryRequest, subject),
    "blast_radius": query(FamilyRequest, blast_radius),
    "activity": query(PeriodRequest, period.activity),
    "search": query(SearchRequest, period.search),
}
"""The queries that the read model answers, by their names in the subject."""

QUERIES_PER_SECOND = 500
"""About one tenant, at each projector."""
LIMITS = Limits(at_once=4, of_tenant=3, of_client=2, waiting=2_048, waiting_of_tenant=500, waiting_of_client=256)
"""Queries that run, and that wait for it: in all, of a tenant, and of one kind about a tenant.

A query that waits for its `min_seq` counts as neither.
"""
OWN_LIMITS = Limits(at_once=2, of_tenant=2, of_client=1, waiting=2_048, waiting_of_tenant=512, waiting_of_client=512)
"""The same for the service's own queries, which have connections and turns of their own."""
MAX_REPLY_BYTES = 900 * 1024
"""Bytes. The broker accepts messages of 1 MiB; a longer page is shortened, any other longer answer is refused."""


def system_now() -> int:
    """Microseconds since 1970, by the machine's clock."""
    return microseconds(datetime.now(UTC))


class Audit:
    """Answers from a read model that is as far as `progress` says. `log_end` returns the log's last sequence.

    `more_handlers` answer further queries, by their names in the subject. `now` returns microseconds since 1970.
    """

    def __init__(
        self,
        progress: Progress,
        log_end: Callable[[], Awaitable[int]],
        more_handlers: Mapping[str, Handler] | None = None,
        now: Callable[[], int] = system_now,
    ) -> None:
        self._now = now
        self._progress = progress
        self._log_end = log_end
        self._connections: asyncio.Queue[sqlite3.Connection] | None = None
        self._turns, self._own_turns = Turns(LIMITS), Turns(OWN_LIMITS)
        self._handlers: dict[str, Handler] = {**(more_handlers or {}), "position": self._position}

    def open(self, path: Path) -> None:
        """Answer from this file from now on."""
        connections: asyncio.Queue[sqlite3.Connection] = asyncio.Queue()
        for _ in range(LIMITS.at_once + OWN_LIMITS.at_once):
            connections.put_nowait(open_for_queries(path))
        self._connections = connections

    async def swap(self, path: Path) -> None:
        """Answer from this file from now on, and close the previous one when its queries have ended."""
        before = self._connections
        self.open(path)
        await _close_all(before)

    async def close(self) -> None:
        """Close the file when the running queries have ended."""
        before, self._connections = self._connections, None
        await _close_all(before)

    def serve(self, broker: Broker) -> None:
        """Answer every query on the broker."""
        for name in (*QUERIES, *self._handlers):
            serve(broker, f"audit.*.{name}", self.answer, queue=QUEUE)

    async def answer(self, subject: str, body: bytes, key: GateKey) -> tuple[bytes, dict[str, str]]:
        """The reply's body and headers for a request on `audit.<tenant>.<query>`. Raises nothing."""
        name = subject.rpartition(".")[2]
        try:
            return _sendable(await self._handle(name, key, body)), {}
        except QueryRefused as refused:
            refusal = refused
        except NoRoom:
            refusal = QueryRefused(
                "temporarily_unavailable", "too many questions about this tenant wait; ask again", 503
            )
        except BadCursor:
            refusal = QueryRefused("invalid_request", "the cursor does not belong to this query")
        except JetStreamMissing:
            refusal = QueryRefused("temporarily_unavailable", "the log does not answer", 503)
        except Exception:
            log.exception("an audit query failed", extra={"subject": subject})
            refusal = QueryRefused("server_error", "the query failed; the service's log says more", 503)
        return refusal.body(), refusal.headers()

    async def _handle(self, name: str, key: GateKey, body: bytes) -> bytes:
        if (handler := self._handlers.get(name)) is not None:
            return await handler(key, body)
        chosen = QUERIES[name]
        request = await self._receive(body, chosen.request)
        turns = self._own_turns if key.is_own else self._turns
        async with turns.of((key.tenant, name)):
            try:
                return await self._run(chosen, key.tenant, request)
            except UnknownTenant:  # it may have been made just now
                await self._progress.reach(await self._log_end(), MIN_SEQ_TIMEOUT_SECONDS)
                return await self._run(chosen, key.tenant, request)

    async def _position(self, _key: GateKey, body: bytes) -> bytes:
        await self._receive(body, AuditRequest)
        applied = self._progress.applied
        end = max(await self._log_end(), applied)
        answer: Answer = {"applied_seq": applied, "log_seq": end, "lag": end - applied}
        if self._progress.obstacle is not None:
            answer["obstacle"] = self._progress.obstacle
        return msgspec.json.encode(answer)

    async def _receive(self, body: bytes, kind: type[R]) -> R:
        request = decode(body, kind)
        if request.min_seq is not None and not await self._progress.reach(request.min_seq, MIN_SEQ_TIMEOUT_SECONDS):
            why = self._progress.obstacle or f"it is at sequence {self._progress.applied}"
            raise QueryRefused("temporarily_unavailable", f"the read model has not reached min_seq: {why}", 503)
        return request

    async def _run(self, query: Query, tenant: str, request: AuditRequest) -> bytes:
        connections = self._connections
        if connections is None:
            why = self._progress.obstacle or "it is being built"
            raise QueryRefused("temporarily_unavailable", f"there is no read model to ask now: {why}", 503)
        connection = await connections.get()
        try:
            context = QueryContext(connection, tenant, self._now())
            return await asyncio.to_thread(query.encoded, context, request, MAX_REPLY_BYTES)
        except sqlite3.DatabaseError as error:
            if (fault := _fault_of_file(str(error))) is None:
                raise
            log.error("the read model cannot be asked: %s", error)
            raise QueryRefused("temporarily_unavailable", fault, 503) from error
        finally:
            connections.put_nowait(connection)


def _fault_of_file(error: str) -> str | None:
    """The fault of the file behind an error message of SQLite, and what to do; None for any other error."""
    if error.startswith("no such "):  # column or table, in a file of an older version
        return "what this needs is being built"
    if "malformed" in error or "not a database" in error:
        return "the read model is damaged; without its file, the projector builds it anew when it starts"
    return None


async def _close_all(connections: asyncio.Queue[sqlite3.Connection] | None) -> None:
    """Close the connections of a file, each when no query uses it."""
    if connections is not None:
        for _ in range(LIMITS.at_once + OWN_LIMITS.at_once):
            (await connections.get()).close()


def _sendable(reply: bytes) -> bytes:
    """The reply. Raises `QueryRefused` for one that is too large for a message."""
    if len(reply) > MAX_REPLY_BYTES:
        raise QueryRefused("server_error", "the answer is too large for one message", 503)
    return reply
