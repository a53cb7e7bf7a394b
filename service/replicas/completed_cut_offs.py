"""Complete cut-offs: the replica that completes one publishes it, and the one that ordered it waits (ADR 0004)."""

import asyncio
import contextlib

from nats.errors import Error as NatsError

from events.bounded_map import BoundedMap
from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from service.keys.seal import Seal

CONSUMER = "reactor"
"""The durable consumer that delivers cut-offs; all up to its acknowledged floor are complete."""
SUBJECT = "heirloom.completed"
MAX_COMPLETED = 4096
"""How many are remembered, since one may be complete before anybody waits for it."""
COMPLETION_TIMEOUT_SECONDS = 30.0
CONSUMER_CHECK_SECONDS = 0.25
"""How often a waiting replica reads the consumer's state, since a message may be lost."""


class CompletedCutOffs:
    """The cut-offs that this replica knows to be complete, by the sequences of their commits."""

    def __init__(self, connection: Connection, log: Log, seal: Seal) -> None:
        self._connection = connection
        self._seal = seal
        self._log = log
        self._known: BoundedMap[int, None] = BoundedMap(MAX_COMPLETED)
        self._waiting: dict[int, asyncio.Event] = {}

    async def start(self) -> None:
        """Subscribe to the other replicas' messages."""
        await self._connection.listen(f"{SUBJECT}.*", self._receive)

    async def publish(self, seq: int) -> None:
        """Publish that every family that the cut-off ends has ended."""
        self._note(seq)
        subject = f"{SUBJECT}.{seq}"
        with contextlib.suppress(NatsError):  # the consumer's state shows it too, later
            await self._connection.publish(subject, self._seal.close(subject, b""))

    async def wait(self, seq: int) -> bool:
        """Wait until the cut-off is complete. False after `COMPLETION_TIMEOUT_SECONDS`."""
        completed = self._waiting.setdefault(seq, asyncio.Event())
        deadline = asyncio.get_running_loop().time() + COMPLETION_TIMEOUT_SECONDS
        try:
            while asyncio.get_running_loop().time() < deadline:
                if seq in self._known:
                    return True
                with contextlib.suppress(Unavailable):
                    if await self._log.finished(CONSUMER, seq):
                        return True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CONSUMER_CHECK_SECONDS):
                        await completed.wait()
            return False
        finally:
            self._waiting.pop(seq, None)

    def _receive(self, subject: bytes, _reply: bytes, sealed: bytes, _headers: bytes | None) -> None:
        if self._seal.open(subject, sealed) is None:
            return  # no replica published it
        self._note(int(subject[subject.rindex(b".") + 1 :]))

    def _note(self, seq: int) -> None:
        self._known[seq] = None
        if (waiting := self._waiting.get(seq)) is not None:
            waiting.set()
