"""How often a device polls (RFC 8628 §3.5). Replicas publish polls, since a device's polls may reach any of them."""

import asyncio

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.bounded_map import BoundedMap
from events.bus.connection import Connection
from service.decide.device_authorization import INTERVAL_SECONDS
from service.keys.seal import Seal

SUBJECT = "heirloom.polled"
INTERVAL_STEP_SECONDS, MAX_INTERVAL_SECONDS = 5, 60
TOLERATED_SECONDS = 1.0
"""How much early a poll may be, since the one before may have been longer on its way."""
MAX_DEVICES = 20_000
"""How many are remembered. A device that was forgotten may poll at once, which does no harm."""


class DevicePolls:
    """The last poll of each device and the interval of its polls, in memory, for the devices that polled last."""

    def __init__(self, connection: Connection, seal: Seal) -> None:
        self._connection = connection
        self._seal = seal
        self._polls: BoundedMap[str, tuple[float, int]] = BoundedMap(MAX_DEVICES)

    async def start(self) -> None:
        """Subscribe to polls that reached other replicas."""
        await self._connection.subscribe(SUBJECT, cb=self._receive)

    async def record_poll(self, family_id: str) -> bool:
        """Record a poll, and return whether it came too early."""
        now = asyncio.get_running_loop().time()
        last, interval = self._polls.get(family_id, (-1e9, INTERVAL_SECONDS))
        early, interval = judge(now - last, interval)
        self._note(family_id, now, interval)
        try:
            poll = f"{family_id} {self._polls[family_id][1]}".encode()
            await self._connection.publish(SUBJECT, self._seal.close(SUBJECT, poll))
        except NatsError:
            return early  # without the broker the device gets no response either
        return early

    async def _receive(self, message: Msg) -> None:
        if (poll := self._seal.open(SUBJECT.encode(), message.data)) is None:
            return
        family_id, interval = poll.decode().split(" ")
        self._note(family_id, asyncio.get_running_loop().time(), int(interval))

    def _note(self, family_id: str, now: float, interval: int) -> None:
        self._polls[family_id] = (now, interval)


def judge(seconds: float, interval: int) -> tuple[bool, int]:
    """Whether a poll so many seconds after the last one is early, and the interval from now on (seconds).

    An early poll makes the interval 5 seconds longer (RFC 8628 §3.5), up to a minute; one in time makes it 5 shorter.
    `TOLERATED_SECONDS` allows for the time that requests are on their way.
    """
    if seconds < interval - TOLERATED_SECONDS:
        return True, min(interval + INTERVAL_STEP_SECONDS, MAX_INTERVAL_SECONDS)
    return False, max(interval - INTERVAL_STEP_SECONDS, INTERVAL_SECONDS)
