"""How often a device polls (RFC 8628 §3.5). Replicas tell each other, since a device's polls reach any of them."""

import asyncio

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.bounded_map import BoundedMap
from events.bus.connection import Connection
from service.decide.device_authorization import INTERVAL_SECONDS
from service.keys.seal import Seal

SUBJECT = "heirloom.polled"
STEP_SECONDS, LONGEST_SECONDS = 5, 60
TOLERATED_SECONDS = 1.0
MAX_DEVICES = 20_000
""" One that is forgotten may poll at once, which costs nobody anything."""


class DevicePolls:
    """The last poll of each device and how far apart its polls must be: in memory, of those that polled last."""

    def __init__(self, connection: Connection, seal: Seal) -> None:
        self._connection = connection
        self._seal = seal
        self._polls: BoundedMap[str, tuple[float, int]] = BoundedMap(MAX_DEVICES)

    async def start(self) -> None:
        """Hear of polls that reached other replicas."""
        await self._connection.subscribe(SUBJECT, cb=self._heard)

    async def too_soon(self, family_id: str) -> bool:
        """Note a poll; whether it came before its time."""
        now = asyncio.get_running_loop().time()
        last, interval = self._polls.get(family_id, (-1e9, INTERVAL_SECONDS))
        early, interval = judge(now - last, interval)
        self._note(family_id, now, interval)
        try:
            poll = f"{family_id} {self._polls[family_id][1]}".encode()
            await self._connection.publish(SUBJECT, self._seal.close(SUBJECT, poll))
        except NatsError:
            return early  # no broker: the device will hear of that by other means
        return early

    async def _heard(self, message: Msg) -> None:
        if (poll := self._seal.open(SUBJECT.encode(), message.data)) is None:
            return
        family_id, interval = poll.decode().split(" ")
        self._note(family_id, asyncio.get_running_loop().time(), int(interval))

    def _note(self, family_id: str, now: float, interval: int) -> None:
        self._polls[family_id] = (now, interval)


def judge(seconds: float, interval: int) -> tuple[bool, int]:
    """Whether a poll that comes so long after the one before is early, and how long to wait from now on.

    Who is early must wait 5 seconds longer (RFC 8628 §3.5), up to a minute; who keeps his time gets 5 of them back. A
    request may have been on its way longer than the next one: so much is tolerated.
    """
    if seconds < interval - TOLERATED_SECONDS:
        return True, min(interval + STEP_SECONDS, LONGEST_SECONDS)
    return False, max(interval - STEP_SECONDS, INTERVAL_SECONDS)
