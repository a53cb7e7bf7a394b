"""Device authorizations that wait for a person (RFC 8628 §3.1): a bounded number, for ten minutes, in broker memory.

A stranger who knows a public client's name can begin one, so it is not in the log before a person answers it. Then the
family's first commit holds both, the request and the answer (ADR 0030). If the broker drops one, or loses it in a
restart, the device receives `expired_token`.
"""

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from events.aggregates.aggregate_names import Aggregate
from events.aggregates.family import FamilyState, fold
from events.aggregates.family_events import DeviceAuthorizationStarted
from events.bus.connection import Connection
from events.jetstream.memory_stream import MemoryStream
from events.log.appender import Conflict
from events.log.jetstream_api import NO_MESSAGE, ApiError, Unavailable
from events.log.log import Log
from service import clock
from service.decide.device_authorization import DEVICE_CODE_SECONDS, MAX_WAITING_OF_TENANT
from service.errors import OAuthError

STREAM = "DEVICES"
MAX_WAITING = 50_000
"""Waiting devices of all clients together."""
COUNTED_SECONDS = 1.0
"""How long a count is used, since a count fetches the names of all of a tenant's waiting devices."""
STORING_SECONDS = 5
"""How much longer than its code a request is stored: it is stored a moment after its code was made."""


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
    "max_msgs": MAX_WAITING,
    "max_msgs_per_subject": 1,
    "max_age": (DEVICE_CODE_SECONDS + STORING_SECONDS) * 1_000_000_000,
}


class _Counts:
    """How many wait, in all and of a tenant's clients: the broker's count `at` that time, and those added since."""

    def __init__(self, at: float, of_all: int, names: Iterable[str]) -> None:
        self.at = at
        self.of_all = of_all
        self.of_client = Counter(name.split(".")[3] for name in names)
        self.of_tenant = self.of_client.total()

    def add(self, client_id: str) -> None:
        """Count one more of the client's."""
        self.of_all += 1
        self.of_tenant += 1
        self.of_client[client_id] += 1


class WaitingDevices:
    """The requests that no person has answered yet, over all replicas."""

    def __init__(self, connection: Connection) -> None:
        self._stream = MemoryStream(connection, CONFIGURATION)
        self._messages = Log(connection, STREAM)
        self._counts: dict[str, _Counts] = {}
        self._counting: dict[str, asyncio.Task[_Counts]] = {}

    async def start(self, copies: int) -> None:
        """Create the stream, in so many `copies`, or verify it. Raises `WeakStream` and `JetStreamMissing`."""
        await self._stream.start(copies)
        await self._messages.start()

    async def add(self, tenant: str, family_id: str, started: DeviceAuthorizationStarted, most: int) -> bool:
        """Store a request; False if the family id is taken.

        Raises `slow_down` if `most` of the client's requests wait already, or too many of its tenant's;
        `temporarily_unavailable` if too many wait in all; and `Unavailable`. The counts may be a second old.
        """
        of_client = f"heirloom.device.{tenant}.{started.client_id}"
        counts = await self._count(tenant)
        if counts.of_client[started.client_id] >= most:
            raise OAuthError("slow_down", "too many devices of this client wait for approval; try again later", "429")
        if counts.of_tenant >= MAX_WAITING_OF_TENANT:
            raise OAuthError("slow_down", "too many devices of this tenant wait for approval; try again later", "429")
        if counts.of_all >= MAX_WAITING:
            raise OAuthError("temporarily_unavailable", "too many devices wait for approval; try again later")
        counts.add(started.client_id)
        place = _place(tenant, family_id)
        try:
            await self._messages.append(f"{of_client}.{family_id}", place.filter, msgspec.json.encode(started), 0)
        except Conflict:
            return False
        return True

    async def find(self, tenant: str, family_id: str) -> DeviceAuthorizationStarted | None:
        """The family's waiting request, from the stream's leader; None if there is none. Raises `Unavailable`."""
        found = await self._stream.request("MSG.GET", last_by_subj=_place(tenant, family_id).filter)
        answer = msgspec.json.decode(found, type=_Found)
        if answer.message is not None:
            return _decoder.decode(base64.b64decode(answer.message.data))
        if answer.error is not None and answer.error.err_code == NO_MESSAGE:
            return None
        raise Unavailable("who waits cannot be read now")

    async def remove(self, tenant: str, family_id: str, client_id: str) -> None:
        """Remove a request whose answer is in the log. If the broker is unavailable, it counts until it expires."""
        with contextlib.suppress(Unavailable):
            await self._stream.request("PURGE", filter=f"heirloom.device.{tenant}.{client_id}.{family_id}")

    async def _count(self, tenant: str) -> _Counts:
        """The counts of an existing tenant. Raises `Unavailable`."""
        counts = self._counts.get(tenant)
        if counts is not None and asyncio.get_running_loop().time() - counts.at < COUNTED_SECONDS:
            return counts
        counting = self._counting.get(tenant)
        if counting is None:  # calls that come meanwhile share the reply, or the error
            counting = self._counting[tenant] = asyncio.create_task(self._counted(tenant))
        return await asyncio.shield(counting)

    async def _counted(self, tenant: str) -> _Counts:
        try:
            now = asyncio.get_running_loop().time()
            found = await self._stream.request("INFO", subjects_filter=f"heirloom.device.{tenant}.*.*")
            info = msgspec.json.decode(found, type=_Info)
            if info.state is None:
                raise Unavailable("who waits cannot be read now")
            counts = self._counts[tenant] = _Counts(now, info.state.messages, info.state.subjects or ())
            return counts
        finally:
            del self._counting[tenant]


def state_of(started: DeviceAuthorizationStarted) -> FamilyState:
    """The state of a family that begins with this request."""
    return fold(None, (started,), clock.now())


def _place(tenant: str, family_id: str) -> Aggregate:
    filter = f"heirloom.device.{tenant}.*.{family_id}"
    return Aggregate(filter, filter, filter)
