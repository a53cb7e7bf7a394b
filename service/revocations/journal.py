"""Appends entries to the feed's stream, each once, and publishes them when they are stored.

An append names the stream's last sequence, so of several publishers side by side one wins, and a repeated append has no
effect. After any failure the stream itself says what it holds. An entry that is stored and was not published, because
its publisher ended in between, is one that verifiers miss; the next heartbeat shows it to them.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from events.bus.connection import Connection
from events.log.appender import WRONG_LAST_SEQUENCE, Ack, Conflict
from events.log.direct_reader import read_direct
from events.log.jetstream_api import Unavailable
from events.log.stored_message import StoredMessage
from events.task_cancellation import end
from service.revocations.entries import Entry, Progress, decode
from service.revocations.stream import PROGRESS, STREAM, read_info, stored_on

WINDOW = 256
"""How many appends are under way at once."""
TAIL = 500
"""How many of the last messages are read at the start, to find one that is an entry."""
ACK_SECONDS = 5.0
_ack_decoder = msgspec.json.Decoder(Ack)


class Found(NamedTuple):
    """An entry that is not numbered yet, and its tenant."""

    tenant: str
    entry: Entry


class Journal:
    """The end of the feed's stream, as far as this process knows it.

    `feed` names the stream that was read last: it is the time at which that was made. `seq` is the commit of its last
    entry, 0 without one, and `commit` its digest, empty where an earlier version wrote the entry.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._forget("")

    def _forget(self, feed: str) -> None:
        self.feed = feed
        self.seq = 0
        self.commit = ""
        self.max_age = 0.0
        self._last: int | None = None
        self._floor = 0
        self._newest: dict[str, int] = {}

    def newest(self, tenant: str) -> int:
        """The number of the tenant's newest entry, or of a later entry of another tenant's."""
        return self._newest.get(tenant, self._floor)

    async def catch_up(self) -> None:
        """Read what was appended by others, or by this process without an acknowledgement.

        Raises `JetStreamMissing` and `Unavailable`.
        """
        info = await read_info(self._connection)
        last = info.state.last_seq
        if info.created != self.feed or last < (self._last or 0):
            self._forget(info.created)
        self.max_age = info.config.max_age / 1e9
        is_first = self._last is None
        known = max(last - TAIL, 0) if self._last is None else self._last
        start = max(known, info.state.first_seq - 1) + 1
        self._floor = last if is_first else self._floor
        messages = read_direct(self._connection, start, stream=STREAM, until=last)
        async with aclosing(messages) as batches:
            async for batch in batches:
                for stored in batch.messages:
                    await self._take(stored, publish=not is_first)
        self._last = last

    async def append(self, found: Sequence[Found]) -> None:
        """Append and publish these, in this order. Raises `Conflict` and `Unavailable`: then `catch_up` first."""
        for start in range(0, len(found), WINDOW):
            await self._append_window(found[start : start + WINDOW])

    async def note(self, progress: Progress) -> None:
        """Append how far the log was read. Raises as `append`."""
        assert self._last is not None
        await self._store(PROGRESS, msgspec.json.encode(progress), self._last)
        self._last += 1
        self.seq, self.commit = progress.seq, progress.commit

    async def _append_window(self, window: Sequence[Found]) -> None:
        assert self._last is not None
        newest: dict[str, int] = {}
        numbered: list[tuple[Found, bytes]] = []
        for n, (tenant, entry) in enumerate(window, self._last + 1):
            named = msgspec.structs.replace(entry, n=n, prev=newest.get(tenant, self.newest(tenant)))
            newest[tenant] = n
            numbered.append((Found(tenant, named), msgspec.json.encode(named)))
        appends = [
            asyncio.create_task(self._store(stored_on(one.tenant), body, expected))
            for expected, (one, body) in enumerate(numbered, self._last)
        ]
        try:
            await asyncio.wait(appends)
        finally:
            await end(appends)
        for append in appends:
            append.result()
        self._last += len(window)
        self._newest |= newest
        self.seq, self.commit = window[-1].entry.seq, window[-1].entry.commit
        for (tenant, entry), body in numbered:
            await self._connection.publish(entry.subject(tenant), body)

    async def _store(self, subject: str, body: bytes, expected: int) -> None:
        headers = {"Nats-Expected-Last-Sequence": str(expected)}
        try:
            reply = await self._connection.request(subject, body, timeout=ACK_SECONDS, headers=headers)
        except TimeoutError as error:
            raise Unavailable("no acknowledgement in time") from error
        refusal = _ack_decoder.decode(reply.data).error
        if refusal is not None and refusal.err_code == WRONG_LAST_SEQUENCE:
            raise Conflict(subject)
        if refusal is not None:
            raise Unavailable(refusal.description)

    async def _take(self, stored: StoredMessage, *, publish: bool) -> None:
        try:
            entry = decode(stored.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # none of ours
        self.seq, self.commit = entry.seq, entry.commit
        if isinstance(entry, Progress):
            return
        tenant = stored.subject.rpartition(".")[2]
        self._newest[tenant] = stored.seq
        if publish:  # perhaps nobody has
            await self._connection.publish(entry.subject(tenant), stored.body)
