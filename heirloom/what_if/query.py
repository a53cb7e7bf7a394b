"""What-if queries: over the log from the command line, and over the bus (`audit.<tenant>.what_if`)."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec

from events.aggregates.aggregate_names import TENANT
from events.bus.connection import Connection
from events.fairness.fair_queue import Limits, NoRoom, Turns
from events.fairness.request_gate import GateKey
from events.log.consumer_reader import Batch
from events.log.direct_reader import has_tenant, read_direct
from events.log.stream import last_sequence
from events.worker.parent import ChildGone, run_worker
from heirloom.moment import is_inverted
from heirloom.what_if.findings import Findings, Scenario, changes_of
from heirloom.what_if.worker import MODULE, FollowedBatch
from projections.progress import MIN_SEQ_TIMEOUT_SECONDS
from projections.queries.requests import AuditRequest, Limit, QueryRefused, Sequence, Time, UnknownTenant, decode
from service.errors import OAuthError

MAX_COMMITS_ON_THE_BUS = 200_000
"""The longest history, in commits, that is decided again for a reply on the bus: about ten seconds."""
POLL_SECONDS = 0.05
"""Between two reads of the log's end, while a query waits for its `min_seq`."""


class CannotTell(Exception):
    """The history cannot be decided again; the message says where, and why."""


class TooLong(Exception):
    """The history has more commits than the limit; `commits` says how many."""

    def __init__(self, commits: int) -> None:
        super().__init__(f"a history of {commits:,} commits")
        self.commits = commits


class WhatIfRequest(AuditRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A what-if query; `since` (of a family's beginning) and `until` (of the history) are times or sequences, included.

    `policy` maps settings by their names in contract §4 to values; null means the default.
    """

    policy: dict[str, Any]
    client_id: str | None = None
    since: Sequence | Time | None = None
    until: Sequence | Time | None = None
    limit: Limit = 100


LIMITS = Limits(at_once=1, of_tenant=1, of_client=1, waiting=8, waiting_of_tenant=1, waiting_of_client=1)
"""Histories that are decided again, each in a process of its own, and that wait for it; tenants take turns."""


class WhatIf:
    """Answers what-if queries on the bus, one at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turns = Turns(LIMITS)

    async def __call__(self, key: GateKey, body: bytes) -> bytes:
        """The findings in JSON. Raises `QueryRefused`, and `JetStreamMissing`."""
        request, tenant = decode(body, WhatIfRequest), key.tenant
        try:
            changes_of(request.policy)
        except OAuthError as error:
            raise QueryRefused("invalid_request", error.description) from error
        if not TENANT.fullmatch(tenant):
            raise QueryRefused("invalid_request", "that is no tenant's name")
        since, until = request.since, request.until
        if is_inverted(since, until):
            raise QueryRefused("invalid_request", "since is after until")
        if request.min_seq is not None:
            await self._reach(request.min_seq)
        now = datetime.now(UTC)
        now = min(until, now) if isinstance(until, datetime) else now
        scenario = Scenario(
            tenant, request.policy, now, client_id=request.client_id, since=since, until=until, limit=request.limit
        )
        try:
            if self._turns.waiting >= LIMITS.waiting:  # also for tenants that do not exist
                raise NoRoom
            async with self._turns.of((tenant, "")):
                findings = await find_out(self._connection, scenario, lambda _: None, MAX_COMMITS_ON_THE_BUS)
                return msgspec.json.encode(findings)
        except NoRoom as error:
            raise QueryRefused(
                "temporarily_unavailable", "other histories are being followed; ask again", 503
            ) from error
        except TooLong as error:
            advice = "ask from a later sequence on, or use the command `heirloom audit what-if`"
            raise QueryRefused("invalid_request", f"{error}: {advice}") from error
        except (CannotTell, ChildGone) as error:
            raise QueryRefused("server_error", str(error), 503) from error

    async def _reach(self, seq: int) -> None:
        """Wait until the log has reached that sequence. Raises `QueryRefused` where it does not in time."""
        time = asyncio.get_running_loop().time
        deadline = time() + MIN_SEQ_TIMEOUT_SECONDS
        while (end := await last_sequence(self._connection)) < seq:
            if time() >= deadline:
                raise QueryRefused(
                    "temporarily_unavailable", f"the log has not reached min_seq: it is at sequence {end}", 503
                )
            await asyncio.sleep(POLL_SECONDS)


async def find_out(
    connection: Connection, scenario: Scenario, advance: Callable[[int], None], at_most: int | None = None
) -> Findings:
    """Decide the history again and judge it; `advance` receives the sequence decided last.

    Raises `CannotTell`, `TooLong` where the history has more than `at_most` commits, `UnknownTenant`,
    `JetStreamMissing`, `ChildGone`.
    """
    fault: str | None = None

    def answered(answer: bytes) -> None:
        nonlocal fault
        progress = msgspec.json.decode(answer, type=FollowedBatch)
        fault = progress.fault
        advance(progress.seq)

    end = await last_sequence(connection)
    if isinstance(scenario.until, int):
        end = min(end, scenario.until)
    command = MODULE, msgspec.json.encode(scenario).decode()
    encoded = await run_worker(command, _history(connection, scenario, end, at_most), answered)
    if fault is not None:
        raise CannotTell(f"the history cannot be followed past {fault}; `heirloom audit verify` says what is wrong")
    findings = msgspec.json.decode(encoded, type=Findings)
    if findings.families == 0 and not await has_tenant(connection, scenario.tenant):
        raise UnknownTenant
    return findings


async def _history(
    connection: Connection, scenario: Scenario, end: int, at_most: int | None
) -> AsyncGenerator[Batch, None]:
    """The settings from the beginning of the log, the families from the requested sequence on."""
    if end == 0:
        return
    of_tenant = f"tokens.{scenario.tenant}"
    start = max(scenario.since, 1) if isinstance(scenario.since, int) else 1
    before = [(1, start - 1, f"{of_tenant}.tenant"), (1, start - 1, f"{of_tenant}.client.*")] if start > 1 else []
    for first, last, filter in (*before, (start, end, f"{of_tenant}.>")):
        read = 0
        async with aclosing(read_direct(connection, first, filter=filter, until=min(last, end))) as batches:
            async for batch in batches:
                read += len(batch.messages)
                if at_most is not None and read + batch.pending > at_most:  # of later books nothing is known yet
                    raise TooLong(read + batch.pending)
                yield batch
