"""The reactor: it ends the families of every cut-off, also if the replica that appended the cut-off is gone (ADR 0004).

All replicas share a durable consumer of each book, which delivers every commit that may end families. A replica ends
the families and only then acknowledges the commit. If it dies meanwhile, another one begins again; no family ends
twice. A closed book is left when its consumer has delivered all, and all is acknowledged.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.aggregates import aggregate_names
from events.aggregates import client as client_events
from events.aggregates import settings as tenant_events
from events.aggregates import subject as subject_events
from events.aggregates.aggregate_names import AggregateName
from events.bus.connection import Connection
from events.jetstream.durable_consumer import ensure_durable
from events.jetstream.pull_consumer import PullConsumer
from events.log.grammar import Foreign, read_commit
from events.log.jetstream_api import JetStreamMissing, Unavailable, request_json, with_a_leader
from events.log.log import Log
from events.log.stored_message import StoredMessage
from events.task_cancellation import end
from events.task_set import TaskSet
from service.context import AdminContext
from service.decide.cut_off import CutOff, cut_off, of_client, of_subject, of_tenant
from service.decide.decision import Decision
from service.decide.policy import Rules
from service.families.cache import LoadedFamily
from service.read_model_client import LiveFamily
from service.replicas.completed_cut_offs import CONSUMER

log = logging.getLogger("heirloom.reactor")

ACK_WAIT_SECONDS = 3.0
MAX_CUT_OFFS = 4
"""Cut-offs that a replica carries out at the same time."""
MAX_REVOCATIONS = 64
"""Families that are being revoked at the same time for one cut-off. Commits that wait together share an fsync."""
RETRY_SECONDS = 0.3
LOOK_SECONDS = 1.0
"""Between two looks whether there is another book."""
FAILURES_BEFORE_ERROR = 20
"""After so many failures in a row without an answer of the consumer's, an error is logged."""
DURABLE = {
    "durable_name": CONSUMER,
    "filter_subjects": list(aggregate_names.CUT_OFFS),
    "ack_wait": int(ACK_WAIT_SECONDS * 1e9),
    "max_ack_pending": 16,
}


class _Ordered(msgspec.Struct):
    """The cut-off's commit: its actor is the actor of the revocations too."""

    actor: str


class Reactor:
    """One replica's share of the cut-offs."""

    def __init__(self, connection: Connection, context: AdminContext) -> None:
        self._connection = connection
        self._context = context
        self._free = asyncio.Semaphore(MAX_CUT_OFFS)
        self._failures = 0

    async def start(self) -> None:
        """Create the durable consumers, or verify them, before anybody reads their progress.

        Raises `JetStreamMissing` and `Unavailable`.
        """
        await self._context.log.look()
        for book in self._context.log.books.in_order():
            await with_a_leader(partial(self._ensure, book.stream))

    async def run(self) -> None:
        """Carry out cut-offs until cancelled. Unfinished ones are then delivered to another replica at once."""
        log = self._context.log
        books: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for book in log.books.in_order():
                    if book.stream not in books:
                        books[book.stream] = asyncio.create_task(self._run(book.stream))
                await asyncio.sleep(LOOK_SECONDS)
                with contextlib.suppress(Unavailable):
                    await log.look()
        finally:
            await end(books.values())

    async def _run(self, stream: str) -> None:
        """Carry out the cut-offs of one book, until it is closed and all are done."""
        tasks = TaskSet()
        while True:
            try:
                await self._ensure(stream)
                await self._take(PullConsumer(self._connection, stream, CONSUMER), stream, tasks)
                return
            except (NatsError, JetStreamMissing) as error:
                self._failures += 1
                if self._failures == FAILURES_BEFORE_ERROR:
                    log.error("no cut-off is carried out: %s", error)
                else:
                    log.info("waiting for the log: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                await tasks.cancel()

    async def _ensure(self, stream: str) -> None:
        await ensure_durable(self._connection, stream, DURABLE)

    async def _take(self, handed_out: PullConsumer, stream: str, tasks: TaskSet) -> None:
        free = self._free

        async def finish(message: Msg) -> None:
            try:
                await self._finish(message)
            finally:
                free.release()

        await handed_out.start()
        try:
            while not (stream != self._context.log.books.newest.stream and await self._is_done(stream)):
                await free.acquire()
                try:
                    message = await handed_out.next()
                except BaseException:
                    free.release()
                    raise
                self._failures = 0
                if message is None:
                    free.release()
                    continue
                tasks.start(finish(message))
        finally:
            await handed_out.close()

    async def _is_done(self, stream: str) -> bool:
        """Whether the consumer of a closed book has delivered all, and all is acknowledged."""
        info = await request_json(self._connection, f"CONSUMER.INFO.{stream}.{CONSUMER}", {})
        return info.get("num_pending") == 0 and info.get("num_ack_pending") == 0

    async def _finish(self, message: Msg) -> None:
        stored = StoredMessage(message.metadata.sequence.stream, message.subject, message.data)
        try:
            async with _kept(message):
                while True:
                    try:
                        await self._enforce(stored)
                        break
                    except (Unavailable, NatsError) as error:
                        log.warning("a cut-off waits: %s", error, extra={"seq": stored.seq})
                        await asyncio.sleep(RETRY_SECONDS)
            await self._context.completed.publish(stored.seq)
            await message.ack()
        except asyncio.CancelledError:
            with contextlib.suppress(NatsError):
                await message.nak()
            raise
        except Exception:
            log.exception("a cut-off could not be finished", extra={"seq": stored.seq})

    async def _enforce(self, stored: StoredMessage) -> None:
        if isinstance(read_commit(stored), Foreign):
            return  # a foreign message ends nothing; the projector reports it
        found = await cut_off_of(self._context.log, stored)
        if found is None:
            return
        if not self._context.skew.is_right():
            raise Unavailable("this replica's clock is not right now")  # its commits would have a wrong time
        tenant = AggregateName.parse(stored.subject).tenant
        before = await self._bound(stored, found)
        actor = msgspec.json.decode(stored.body, type=_Ordered).actor
        free = asyncio.Semaphore(MAX_REVOCATIONS)

        async def end_family(family: LiveFamily) -> bool:
            async with free:
                return await self._end(tenant, family, found, actor)

        ended = 0
        async for families in self._context.read_model.live(tenant, found.sub, found.client_id, before - 1):
            concerned = [family for family in families if family.opened_seq < before]
            ended += sum(await asyncio.gather(*(end_family(family) for family in concerned)))
        log.info("a cut-off is complete", extra={"seq": stored.seq, "reason": found.reason, "ended": ended})

    async def _bound(self, stored: StoredMessage, found: CutOff) -> int:
        """The sequence before which a family must have begun to be ended by the cut-off."""
        if found.sub is not None:
            return stored.seq  # a family's first commit expects its person's newest commit
        await self._context.replicas.barrier(stored.seq)
        if found.reason == "client_disabled":
            enabled = await _enabled_after(self._context.log, stored)
            if enabled is not None:
                return enabled
        return await self._context.log.last_sequence() + 1

    async def _end(self, tenant: str, family: LiveFamily, found: CutOff, actor: str) -> bool:
        rules = await self._rules(tenant, family.client_id)

        def decide(loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
            return cut_off(loaded.state, found, rules)

        committed = await self._context.families.decide(tenant, family.family_id, actor, decide)
        return committed.seq > 0

    async def _rules(self, tenant: str, client_id: str) -> Rules:
        known = await self._context.registry.tenant(tenant)
        client = await self._context.registry.client(known, client_id) if known is not None else None
        return client.rules if client is not None else Rules()


async def cut_off_of(log: Log, stored: StoredMessage) -> CutOff | None:
    """The cut-off that the commit is, or None. Raises `Unavailable`."""
    name = AggregateName.parse(stored.subject)
    match name.kind:
        case "subject":
            return of_subject(subject_events.codec.decode(stored.body).events, stored.seq)
        case "client":
            client = client_events.codec.decode(stored.body)
            earlier = await log.at(client.prev_seq) if client.prev_seq else None
            before = client_events.codec.decode(earlier.body).state if earlier is not None else None
            return of_client(name.id, client.events, before, stored.seq)
        case _:
            tenant = tenant_events.codec.decode(stored.body)
            earlier = await log.at(tenant.prev_seq) if tenant.prev_seq else None
            was = tenant_events.codec.decode(earlier.body).state if earlier is not None else None
            return of_tenant(tenant.events, was, stored.seq)


@contextlib.asynccontextmanager
async def _kept(message: Msg) -> AsyncIterator[None]:
    """Keep the broker from delivering the message again, for as long as this lasts."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(ACK_WAIT_SECONDS / 4)
            with contextlib.suppress(NatsError):
                await message.in_progress()

    keeping = asyncio.create_task(keep())
    try:
        yield
    finally:
        await end((keeping,))


async def _enabled_after(log: Log, disabled: StoredMessage) -> int | None:
    """The sequence of the commit that enabled the client again, or None. Raises `Unavailable`."""
    name = AggregateName.parse(disabled.subject)
    aggregate, seq = aggregate_names.client(name.tenant, name.id), disabled.seq
    while (stored := await log.next_after(aggregate, seq)) is not None:
        commit = read_commit(stored)
        if not isinstance(commit, Foreign) and any(
            isinstance(event, client_events.ClientEnabled) for event in commit.events
        ):
            return stored.seq
        seq = stored.seq
    return None
