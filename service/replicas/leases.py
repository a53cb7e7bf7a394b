"""Leases: how a setting becomes effective on all replicas before it is acknowledged (ADR 0004).

Settings are read from memory, which may be old. So a replica decides on its memory only while it holds a lease: for
`LEASE_SECONDS` after a time as of which it has certainly applied every commit. A lease is an entry in a stream of its
own, which the broker drops when the lease and every request that began under it are over. `barrier` asks every replica
that has an entry, and waits until the leases of those that do not reply are over. Correctness does not depend on how
soon a message arrives, only on how long a second is.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable, request_bytes
from events.log.log import Log
from events.log.stream import ensure_exactly
from events.task_set import TaskSet
from service.keys.mac_tokens import new_id
from service.keys.seal import Seal
from service.registry.registry import Registry
from service.replicas.broker_clock import Skew

log = logging.getLogger("heirloom.replicas")

STREAM = "REPLICAS"
LEASE_SECONDS = 3.0
"""How long a replica may decide on its memory after it was certainly current."""
RENEW_SECONDS = 1.0
REQUEST_SECONDS = 3.0
"""A request that takes longer is not answered with its decision, so a decision's settings are never older."""
REPLY_TIMEOUT_SECONDS = 1.0


class _Info(msgspec.Struct):
    class State(msgspec.Struct):
        subjects: dict[str, int] | None = None

    state: State | None = None


def configuration(copies: int) -> dict[str, Any]:
    """The configuration of the stream of leases. It is stored on disk, so that a broker's restart loses no lease."""
    return {
        "name": STREAM,
        "subjects": ["heirloom.replica.*"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": copies,
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_age": int(LEASE_SECONDS + REQUEST_SECONDS + 1) * 1_000_000_000,
    }


class Replicas:
    """The lease of this replica, called `replica_id`, and the barrier over the leases of all of them.

    `settled` returns when the requests that are under way now are answered.
    """

    def __init__(
        self,
        connection: Connection,
        log: Log,
        registry: Registry,
        skew: Skew,
        seal: Seal,
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._seal = seal
        self._log = log
        self._registry = registry
        self._skew = skew
        self.replica_id = new_id()
        self._jetstream = connection.jetstream(timeout=1)
        self._settled = settled
        self._tasks = TaskSet()
        self._others = False

    def is_alone(self) -> bool:
        """Whether no other replica had a lease lately."""
        return not self._others

    async def start(self, copies: int) -> None:
        """Take a lease, and renew it."""
        await ensure_exactly(self._connection, configuration(copies), mends=True)

        async def asked(message: Msg) -> None:
            self._tasks.start(self._answer(message))

        await self._connection.subscribe(f"heirloom.applied.{self.replica_id}", cb=asked)
        await self._connection.flush()
        await self.renew()
        self._tasks.start(self._keep())

    async def stop(self) -> None:
        """Give up the lease. Later decisions read the log, since no barrier asks this replica any more."""
        await self._tasks.cancel()
        self._registry.current_until = self._log.certain_until = float("-inf")
        with contextlib.suppress(NatsError):
            await self._jetstream.purge_stream(STREAM, subject=f"heirloom.replica.{self.replica_id}")

    async def barrier(self, seq: int, *, of_every_version: bool = False) -> None:
        """Return when no replica decides on settings older than `seq`, the sequence of a registry commit.

        A replica of an earlier version may not know such a commit, not answer, and renew its lease. Where that matters,
        a barrier `of_every_version` does not pass it. Raises `Unavailable`.
        """
        loop = asyncio.get_running_loop()
        safe_at = loop.time() + LEASE_SECONDS + REQUEST_SECONDS
        passed = await asyncio.gather(*(self._applied(replica, seq, safe_at) for replica in await self.holders()))
        if of_every_version and not all(passed):
            raise Unavailable("a replica does not answer, and serves on; is it of an earlier version?")

    async def _applied(self, replica: str, seq: int, safe_at: float) -> bool:
        """Whether the replica has applied it, or has no lease any more; False if its lease then is certainly over."""
        loop = asyncio.get_running_loop()
        if replica == self.replica_id:  # the connection does not receive what it publishes
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(safe_at):
                    await self._apply(seq)
                    return True
            return False
        subject, question = f"heirloom.applied.{replica}", b"%d" % seq
        sealed = self._seal.close(subject, question)
        while (left := safe_at - loop.time()) > 0:
            try:
                reply = await self._connection.request(subject, sealed, timeout=min(left, REPLY_TIMEOUT_SECONDS))
                if self._seal.open(_answer_to(subject), reply.data) == question:
                    return True
            except NatsError:
                pass
            await asyncio.sleep(0.1)
            if replica not in await self.holders():
                return True
        log.info("a replica did not answer, and its lease is over", extra={"replica": replica})
        return False

    async def _apply(self, seq: int) -> None:
        await self._registry.wait_until_applied(seq)
        await self._settled()

    async def _answer(self, message: Msg) -> None:
        if (question := self._seal.open(message.subject.encode(), message.data)) is None:
            return
        await self._apply(int(question))
        with contextlib.suppress(NatsError):
            await message.respond(self._seal.close(_answer_to(message.subject).decode(), question))

    async def holders(self) -> list[str]:
        """The `replica_id` of every replica that has a lease now. Raises `Unavailable`."""
        request = b'{"subjects_filter":"heirloom.replica.*"}'
        try:
            reply = await request_bytes(self._connection, f"STREAM.INFO.{STREAM}", request, REPLY_TIMEOUT_SECONDS)
        except NatsError as error:
            raise Unavailable("who else serves cannot be read now") from error
        info = msgspec.json.decode(reply, type=_Info)
        if info.state is None:
            raise Unavailable("who else serves cannot be read now")
        return [subject.rpartition(".")[2] for subject in info.state.subjects or ()]

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew()

    async def renew(self) -> None:
        """Renew the lease.

        Publish the entry first, then read the log: a barrier either finds the entry, or its commit is in what is read.
        """
        asked_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(LEASE_SECONDS):
                await self._skew.measure(self._connection)
                await self._jetstream.publish(f"heirloom.replica.{self.replica_id}", b"")
                await self._registry.wait_until_applied(await self._log.last_setting())
                self._others = len(await self.holders()) > 1
        except (NatsError, Unavailable, TimeoutError) as error:
            log.info("the lease is not renewed: %s", type(error).__name__)
            return
        self._registry.current_until = self._log.certain_until = asked_at + LEASE_SECONDS


def _answer_to(subject: str) -> bytes:
    """The subject that a reply is sealed for: it goes to an inbox, and must not be valid as a request."""
    return f"{subject}.answer".encode()
