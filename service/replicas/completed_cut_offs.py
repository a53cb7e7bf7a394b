"""Which cut-offs are complete: whoever completed one says so, and whoever ordered it waits for that (ADR 0004)."""

import asyncio
import contextlib

from nats.errors import Error as NatsError

from events.bounded_map import BoundedMap
from events.bus.connection import Connection
from events.log.log import Log, Unavailable
from service.keys.seal import Seal

CONSUMER = "reactor"
"""The durable consumer that hands cut-offs out; what it has seen acknowledged without a gap is complete as well."""
SUBJECT = "heirloom.completed"
MAX_COMPLETED = 4096
"""So many are remembered: one may be complete before anybody waits for it."""
COMPLETION_TIMEOUT_SECONDS = 30.0
LOOK_SECONDS = 0.25
"""How often the consumer is asked meanwhile, should what was said have been lost."""


class CompletedCutOffs:
    """What this replica has heard of, by the sequences of the commits that cut off."""

    def __init__(self, connection: Connection, log: Log, seal: Seal) -> None:
        self._connection = connection
        self._seal = seal
        self._log = log
        self._known: BoundedMap[int, None] = BoundedMap(MAX_COMPLETED)
        self._waiting: dict[int, asyncio.Event] = {}

    async def start(self) -> None:
        """Listen to the other replicas."""
        await self._connection.listen(f"{SUBJECT}.*", self._heard)

    async def publish(self, seq: int) -> None:
        """Every family that the cut-off ends has ended. The connection need not receive what it publishes."""
        self._note(seq)
        subject = f"{SUBJECT}.{seq}"
        with contextlib.suppress(NatsError):  # the consumer tells it too, later
            await self._connection.publish(subject, self._seal.close(subject, b""))

    async def wait(self, seq: int) -> bool:
        """Until the cut-off is complete, however many others are not. False when that takes too long."""
        heard = self._waiting.setdefault(seq, asyncio.Event())
        deadline = asyncio.get_running_loop().time() + COMPLETION_TIMEOUT_SECONDS
        try:
            while asyncio.get_running_loop().time() < deadline:
                if seq in self._known:
                    return True
                with contextlib.suppress(Unavailable):
                    if await self._log.finished(CONSUMER) >= seq:
                        return True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await heard.wait()
            return False
        finally:
            self._waiting.pop(seq, None)

    def _heard(self, subject: bytes, _reply: bytes, sealed: bytes, _headers: bytes | None) -> None:
        if self._seal.open(subject, sealed) is None:
            return  # nobody who could know has said so
        self._note(int(subject[subject.rindex(b".") + 1 :]))

    def _note(self, seq: int) -> None:
        self._known[seq] = None
        if (waiting := self._waiting.get(seq)) is not None:
            waiting.set()
