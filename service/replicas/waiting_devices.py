"""Device authorizations that wait for a person (RFC 8628 §3.1): in the broker's memory, for ten minutes, bounded.

Whoever knows a public client's name can begin them, so nothing of one is in the log before somebody answers it: then
the family's first commit tells both, what was asked and the answer (ADR 0030). When the broker forgets them, or loses
them by starting anew, the device is told `expired_token`.
"""

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from events.aggregates.family import DeviceAuthorizationStarted, FamilyState, fold
from events.aggregates.subjects import Aggregate
from events.bus.connection import Connection
from events.jetstream.memory_stream import MemoryStream
from events.log.jetstream_api import NO_MESSAGE, ApiError
from events.log.log import Conflict, Log, Unavailable
from service import clock
from service.decide.device_authorization import DEVICE_CODE_SECONDS, MOST_WAITING_OF_TENANT
from service.errors import OAuthError

STREAM = "DEVICES"
MOST = 50_000
"""Of all clients together."""
COUNTED_SECONDS = 1.0
"""So long a count holds, with what was added here since: counting fetches the names of all of a tenant's."""
LATE_SECONDS = 5
"""How much longer than its code a request is kept: it is stored a moment after it was begun."""


class _State(msgspec.Struct):
    messages: int = 0
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct):
    state: _State | None = None


class _Message(msgspec.Struct):
    data: str


class _Found(msgspec.Struct):
    message: _Message | None = None
    error: ApiError | None = None


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


class _Counts:
    """How many wait, in all and of a tenant's clients: by the broker's word, `at` that time, and what came since."""

    def __init__(self, at: float, of_all: int, names: Iterable[str]) -> None:
        self.at = at
        self.of_all = of_all
        self.of_client = Counter(name.split(".")[3] for name in names)
        self.of_tenant = self.of_client.total()

    def add(self, client_id: str) -> None:
        """One more."""
        self.of_all += 1
        self.of_tenant += 1
        self.of_client[client_id] += 1


class WaitingDevices:
    """The requests that nobody has answered yet, of all replicas."""

    def __init__(self, connection: Connection) -> None:
        self._stream = MemoryStream(connection, CONFIGURATION)
        self._messages = Log(connection, STREAM)
        self._counts: dict[str, _Counts] = {}
        self._counting: dict[str, asyncio.Task[_Counts]] = {}

    async def start(self, replicas: int) -> None:
        """Make the stream, or verify the one there is. Raises `WeakStream` and `JetStreamMissing`."""
        await self._stream.start(replicas)
        await self._messages.start()

    async def add(self, tenant: str, family_id: str, started: DeviceAuthorizationStarted, most: int) -> bool:
        """Keep one more; False where another one has that family id.

        Raises `slow_down` where `most` of the client's wait already, or as many of its tenant's as may,
        `temporarily_unavailable` where too many of all do, and `Unavailable`. Replicas hear of each other's, and of
        what has been answered, within a second.
        """
        of_client = f"heirloom.device.{tenant}.{started.client_id}"
        counts = await self._count(tenant)
        if counts.of_client[started.client_id] >= most:
            raise OAuthError("slow_down", "too many devices of this client wait for approval; try again later", "429")
        if counts.of_tenant >= MOST_WAITING_OF_TENANT:
            raise OAuthError("slow_down", "too many devices of this tenant wait for approval; try again later", "429")
        if counts.of_all >= MOST:
            raise OAuthError("temporarily_unavailable", "too many devices wait for approval; try again later")
        counts.add(started.client_id)
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

    async def _count(self, tenant: str) -> _Counts:
        """Of a tenant that there is. Raises `Unavailable`."""
        counts = self._counts.get(tenant)
        if counts is not None and asyncio.get_running_loop().time() - counts.at < COUNTED_SECONDS:
            return counts
        counting = self._counting.get(tenant)
        if counting is None:  # who comes meanwhile asks nothing himself, and fails with it
            counting = self._counting[tenant] = asyncio.create_task(self._counted(tenant))
        return await asyncio.shield(counting)

    async def _counted(self, tenant: str) -> _Counts:
        try:
            now = asyncio.get_running_loop().time()
            found = await self._stream.ask("INFO", subjects_filter=f"heirloom.device.{tenant}.*.*")
            info = msgspec.json.decode(found, type=_Info)
            if info.state is None:
                raise Unavailable("who waits cannot be read now")
            counts = self._counts[tenant] = _Counts(now, info.state.messages, info.state.subjects or ())
            return counts
        finally:
            del self._counting[tenant]


def state_of(started: DeviceAuthorizationStarted) -> FamilyState:
    """The family that would begin so."""
    return fold(None, (started,), clock.now())


def _place(tenant: str, family_id: str) -> Aggregate:
    filter = f"heirloom.device.{tenant}.*.{family_id}"
    return Aggregate(filter, filter, filter)
