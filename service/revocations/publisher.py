"""The publisher: it follows the log in order into the revocation feed, and tells once a second that it has caught up.

Its connection may read the log and append to the feed, and nothing else. It reads the whole log: a filter would have
the broker search all subjects at each look. Where a revocation is republished, it looks at once.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import msgspec
from nats.errors import Error as NatsError

from events.aggregates.aggregate_names import AggregateName
from events.bus.connection import Connection
from events.log.appender import Conflict
from events.log.direct_reader import message_at, read_direct
from events.log.grammar import Foreign, read_commit
from events.log.jetstream_api import JetStreamMissing, Unavailable
from events.log.log import Log
from events.log.stored_message import StoredMessage
from events.log.stream import REVOKED, last_sequence, tenants
from events.task_cancellation import end
from service.revocations.entries import Heartbeat, Progress, abridged_digest, client_of, entry_of
from service.revocations.journal import Found, Journal
from service.revocations.lifetimes import Lifetimes
from service.revocations.stream import heartbeat_on, read_info, remove

log = logging.getLogger("heirloom.publisher")

HEARTBEAT_SECONDS = 1.0
POLL_SECONDS, LOOK_SECONDS, LOOKS = 0.2, 0.005, 20
"""How long until the log is looked at again; and after a revocation was heard of, how long and how often."""
PROGRESS_EVERY = 10_000
"""After so many commits without an entry, the feed notes how far the log was read."""
RETRY_SECONDS = 0.3
SET_BACK_SECONDS = 2 * 86_400
"""By how much the broker's clock may once have been set back without a new feed lacking an entry."""
UNKNOWN = -1


class Publisher:
    """Publishes through one connection. `tolerance` is how much longer than it lives a token may be accepted (s)."""

    def __init__(self, connection: Connection, tolerance: int) -> None:
        self._connection = connection
        self._tolerance = tolerance
        self._log = Log(connection)
        self._lifetimes = Lifetimes(self._log)
        self._journal = Journal(connection)
        self._tenants: set[str] = set()
        self._heard = asyncio.Event()
        self._looks = 0
        self._progress = asyncio.Condition()
        self.processed = UNKNOWN
        """The log up to this sequence is in the feed."""
        self._commit = ""
        """The digest of what was read at that sequence."""
        self.entries = 0
        """How many entries were appended."""
        self.caught_up_at = time.monotonic()
        """When the whole log was in the feed last (monotonic clock)."""

    async def run(self) -> None:
        """Publish until cancelled. Raises `UnreadableCommit`: what a later version has written must not be passed."""
        await self._log.start()
        await self._connection.listen(REVOKED, self._hear)
        while True:
            self.processed = UNKNOWN
            working = asyncio.create_task(self._follow()), asyncio.create_task(self._beat())
            try:
                await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                ended = [task.exception() for task in working if task.done()]  # of both, where both lost the broker
                for error in ended:
                    if error is not None:
                        raise error
            except (Unavailable, JetStreamMissing, Conflict, NatsError) as error:
                log.info("waiting: %s", error)
            finally:
                await end(working)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        await self._journal.catch_up()
        last, seq = await last_sequence(self._connection), self._journal.seq
        if seq > last or not await self._has(seq, self._journal.commit):
            await remove(self._connection)
            raise Conflict(f"the log is not the one that the feed is of up to {seq}: the feed is made anew")
        self._tenants = set(await tenants(self._connection))
        start = seq + 1 if seq > 0 else await self._first_that_counts(last)
        before = None if start == 1 else await message_at(self._connection, start - 1)
        await self._advance(start - 1, before)
        async with aclosing(read_direct(self._connection, start, pause=self._pause)) as batches:
            async for batch in batches:
                await self._check_log()  # it may have been replaced, and be longer than before already
                await self._take(batch.messages)
                await self._advance(batch.messages[-1].seq, batch.messages[-1])

    async def _has(self, seq: int, commit: str) -> bool:
        """Whether the log has that commit there, as far as that is known. Raises `Unavailable`."""
        if seq <= 0 or commit == "":
            return True
        stored = await message_at(self._connection, seq)
        return stored is not None and abridged_digest(stored.body) == commit

    async def _check_log(self) -> None:
        """Raises `Conflict` if the log is not the one that was read, or is shorter now."""
        seq = self.processed
        if not await self._has(seq, self._commit):
            raise Conflict(f"the log is not the one that was read up to {seq}")

    async def _first_that_counts(self, last: int) -> int:
        """A sequence no later than that of the first commit that is young enough for an entry.

        Times go back where the broker's clock is set back. By up to `SET_BACK_SECONDS` that leads to no later sequence:
        of what is young enough, nothing is stamped as older than `oldest`.
        """
        oldest = (await read_info(self._connection)).ts.timestamp() - self._journal.max_age - SET_BACK_SECONDS
        low, high = 1, last + 1
        while low < high:
            middle = (low + high) // 2
            stored = await message_at(self._connection, middle)
            stored_at = None if stored is None else stored.stored_at
            if stored_at is not None and stored_at < datetime.fromtimestamp(oldest, UTC):
                low = middle + 1
            else:
                high = middle
        return low

    async def _take(self, messages: Sequence[StoredMessage]) -> None:
        found = [one for stored in messages if (one := await self._found(stored)) is not None]
        if found:
            await self._journal.append(found)
            self.entries += len(found)
        elif messages[-1].seq - self._journal.seq >= PROGRESS_EVERY:
            await self._journal.note(Progress(messages[-1].seq, abridged_digest(messages[-1].body)))

    async def _found(self, stored: StoredMessage) -> Found | None:
        """The entry that the message leads to. Raises `Unavailable` and `UnreadableCommit`."""
        parts = stored.subject.split(".", 4)
        if len(parts) == 5 and parts[4] == "live":  # nine of ten; no other commit has so many parts
            return None
        commit = read_commit(stored)
        if isinstance(commit, Foreign):
            return None
        name = AggregateName.parse(stored.subject)
        self._looks = 0
        if name.kind in ("tenant", "client"):
            self._tenants.add(name.tenant)
            self._lifetimes.forget(stored.subject)
        client_id, lives = client_of(name, commit), 0
        if client_id is not None:
            lives = await self._lifetimes.longest(name.tenant, client_id)
        entry = entry_of(name, stored.seq, commit, lives + self._tolerance)
        if entry is None:
            return None
        return Found(name.tenant, msgspec.structs.replace(entry, commit=abridged_digest(stored.body)))

    async def _advance(self, processed: int, newest: StoredMessage | None) -> None:
        async with self._progress:
            self.processed, self._commit = processed, "" if newest is None else abridged_digest(newest.body)
            self._progress.notify_all()

    async def _beat(self) -> None:
        """Publish a heartbeat for each tenant, whenever all that the log has by now is in the feed."""
        while True:
            info = await read_info(self._connection)
            last = await last_sequence(self._connection)  # read after the time, so that nothing before it is missing
            async with self._progress:
                while self.processed < last:
                    await self._progress.wait()
            await self._check_log()
            if info.created != self._journal.feed:
                raise Conflict("the feed was made anew")
            self.caught_up_at = time.monotonic()
            at = info.ts.timestamp()
            for tenant in self._tenants:
                body = msgspec.json.encode(Heartbeat(info.created, self._journal.newest(tenant), at))
                await self._connection.publish(heartbeat_on(tenant), body)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _pause(self) -> None:
        """Wait until it is time to look for new commits: a copy of the log may have one a little later than another."""
        if self._looks > 0:
            self._looks -= 1
            await asyncio.sleep(LOOK_SECONDS)
            return
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._heard.wait()
        except TimeoutError:
            return
        self._heard.clear()
        self._looks = LOOKS

    def _hear(self, _subject: bytes, _reply: bytes, _body: bytes, _headers: bytes | None) -> None:
        self._heard.set()
