"""Device authorizations that wait for a person (RFC 8628 §3.1): in the broker's memory, for ten minutes, bounded.

Whoever knows a public client's name can begin them, so nothing of one is in the log before somebody answers it: then
the family's first commit tells both, what was asked and the answer (ADR 0032). When the broker forgets them, or loses
them by starting anew, the device is told `expired_token`.
"""

import base64
import contextlib
from typing import Any

import msgspec

from events.bus import Connection
from events.family import DeviceAuthorizationStarted, FamilyState, fold
from events.log import NO_MESSAGE, Conflict, Log, Unavailable
from events.memory_stream import MemoryStream
from events.subjects import Aggregate
from service import clock
from service.decide.device import DEVICE_CODE_SECONDS
from service.errors import OAuthError

STREAM = "DEVICES"
MOST = 50_000
"""Of all clients together."""
LATE_SECONDS = 5
"""How much longer than its code a request is kept: it is stored a moment after it was begun."""


class _State(msgspec.Struct):
    messages: int = 0
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct):
    state: _State | None = None


class _Message(msgspec.Struct):
    data: str


class _Error(msgspec.Struct):
    err_code: int = 0


class _Found(msgspec.Struct):
    message: _Message | None = None
    error: _Error | None = None


_decoder = msgspec.json.Decoder(DeviceAuthorizationStarted)


CONFIGURATION: dict[str, Any] = {
    "name": STREAM,
    "subjects": ["heirloom.device.*.*.*"],
    "retention": "limits",
    "storage": "memory",
    "discard": "new",
    "max_msgs": MOST,
    "max_msgs_per_subject": 1,
    "max_age": (DEVICE_CODE_SECONDS + LATE_SECONDS) * 1_000_000_000,
}


class Waiting:
    """The requests that nobody has answered yet, of all replicas."""

    def __init__(self, connection: Connection) -> None:
        self._stream = MemoryStream(connection, CONFIGURATION)
        self._messages = Log(connection, STREAM)

    async def start(self, replicas: int) -> None:
        """Make the stream, or verify the one there is. Raises `WeakStream` and `JetStreamMissing`."""
        await self._stream.start(replicas)
        await self._messages.start()

    async def add(self, tenant: str, family_id: str, started: DeviceAuthorizationStarted, most: int) -> bool:
        """Keep one more; False where another one has that family id.

        Raises `slow_down` where `most` of the client's wait already, `temporarily_unavailable` where too many of all
        do, and `Unavailable`.
        """
        of_client = f"heirloom.device.{tenant}.{started.client_id}"
        of_all, own = await self._count(f"{of_client}.*")
        if own >= most:
            raise OAuthError("slow_down", "too many devices of this client wait for approval; try again later", "429")
        if of_all >= MOST:
            raise OAuthError("temporarily_unavailable", "too many devices wait for approval; try again later")
        place = _place(tenant, family_id)
        try:
            await self._messages.append(f"{of_client}.{family_id}", place.filter, msgspec.json.encode(started), 0)
        except Conflict:
            return False
        return True

    async def find(self, tenant: str, family_id: str) -> DeviceAuthorizationStarted | None:
        """What was asked, as the stream's leader has it; None where nobody waits. Raises `Unavailable`."""
        found = await self._stream.ask("MSG.GET", last_by_subj=_place(tenant, family_id).filter)
        answer = msgspec.json.decode(found, type=_Found)
        if answer.message is not None:
            return _decoder.decode(base64.b64decode(answer.message.data))
        if answer.error is not None and answer.error.err_code == NO_MESSAGE:
            return None
        raise Unavailable("who waits cannot be read now")

    async def remove(self, tenant: str, family_id: str, client_id: str) -> None:
        """It has been answered, which is in the log. What stays for want of a broker counts until it expires."""
        with contextlib.suppress(Unavailable):
            await self._stream.ask("PURGE", filter=f"heirloom.device.{tenant}.{client_id}.{family_id}")

    async def _count(self, filter: str) -> tuple[int, int]:
        """How many wait, of all and under the filter."""
        info = msgspec.json.decode(await self._stream.ask("INFO", subjects_filter=filter), type=_Info)
        if info.state is None:
            raise Unavailable("who waits cannot be read now")
        return info.state.messages, len(info.state.subjects or ())


def state_of(started: DeviceAuthorizationStarted) -> FamilyState:
    """The family that would begin so."""
    return fold(None, (started,), clock.now())


def _place(tenant: str, family_id: str) -> Aggregate:
    filter = f"heirloom.device.{tenant}.*.{family_id}"
    return Aggregate(filter, filter, filter)
