"""Repairs a copy of the log that lacks commits: the broker fetches the log anew from the others (ADR 0016).

After a crash, a broker checks its files. From a message with a wrong checksum on, it drops the rest of that file, and
continues with the other files. It fetches what is missing at the end, but never notices a gap before it, and reports
itself current. Nothing in the log is ever deleted, so a copy with fewer messages than sequences has lost some.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from nats.errors import Error as NatsError

from events.aggregates.aggregate_names import CHECKPOINTS
from events.bus.connection import Connection
from events.log.books import number_of
from heirloom.process.child_process import Child, ChildFailed

log = logging.getLogger("heirloom.up")

STATUS_SUBJECT = "$SYS.REQ.SERVER.PING.JSZ"
STATUS_REQUEST = msgspec.json.encode({"accounts": True, "streams": True, "config": True})
STATUS_TIMEOUT_SECONDS = 1.0
CHECK_SECONDS = 1.0
STOP_SECONDS = 15
SETTLE_SECONDS = 15
"""How long the others may take to agree, without the stopped one, who leads and that both have everything."""
FETCH_SECONDS = 600
"""How long a broker may take to fetch the log; no other broker is stopped meanwhile."""
RETRY_SECONDS = 60
"""After an attempt that failed."""


class _Peer(msgspec.Struct):
    name: str
    current: bool
    offline: bool = False


class _Group(msgspec.Struct):
    leader: str | None = None
    replicas: list[_Peer] = []


class _State(msgspec.Struct):
    messages: int
    last_seq: int


class _Config(msgspec.Struct):
    first_seq: int = 1


class _Stream(msgspec.Struct):
    name: str
    state: _State
    config: _Config = msgspec.field(default_factory=_Config)
    cluster: _Group = msgspec.field(default_factory=_Group)

    @property
    def lacking(self) -> int:
        """How many messages it has lost, if it is a book of the log or holds the checkpoints; else 0."""
        if self.name != CHECKPOINTS and number_of(self.name) is None:
            return 0
        return self.state.last_seq - max(self.config.first_seq - 1, 0) - self.state.messages


class _Account(msgspec.Struct):
    stream_detail: list[_Stream] = []


class Copy(msgspec.Struct):
    """One broker's status: its streams, and the groups that it is a member of."""

    meta_cluster: _Group = msgspec.field(default_factory=_Group)
    account_details: list[_Account] = []

    @property
    def streams(self) -> list[_Stream]:
        """The streams on its disk."""
        return [stream for account in self.account_details for stream in account.stream_detail]

    @property
    def groups(self) -> list[tuple[str, _Group]]:
        """The Raft groups, by name: the one that manages the streams (""), and one for each stream."""
        return [("", self.meta_cluster), *((stream.name, stream.cluster) for stream in self.streams)]

    @property
    def lacking(self) -> int:
        """How many messages of the log and of its checkpoints the copy has lost."""
        return sum(stream.lacking for stream in self.streams)


class _Server(msgspec.Struct):
    name: str


class _Reply(msgspec.Struct):
    server: _Server
    data: Copy


_decoder = msgspec.json.Decoder(_Reply)


async def copies(connection: Connection, count: int) -> dict[str, Copy]:
    """Maps a broker's name to its status, for those of `count` brokers that answer within a second."""
    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox)
    found: dict[str, Copy] = {}
    try:
        await connection.publish(STATUS_SUBJECT, STATUS_REQUEST, reply=inbox)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STATUS_TIMEOUT_SECONDS):
                while len(found) < count:
                    reply = _decoder.decode((await subscription.next_msg(STATUS_TIMEOUT_SECONDS)).data)
                    found[reply.server.name] = reply.data
    finally:
        await subscription.unsubscribe()
    return found


def have_everything(found: Mapping[str, Copy], names: Sequence[str]) -> bool:
    """Whether these brokers lack nothing, and one of them leads each group, in which the others are current."""
    if any(name not in found or found[name].lacking for name in names):
        return False
    views: dict[str, list[_Group]] = {}
    for name in names:
        for group_name, group in found[name].groups:
            views.setdefault(group_name, []).append(group)
    return all(len(groups) == len(names) and _agreed(groups, names) for groups in views.values())


def _agreed(views: Sequence[_Group], names: Sequence[str]) -> bool:
    """Whether these brokers' views of a group agree. Only the leader knows which brokers are current."""
    leader = views[0].leader
    if leader not in names or any(group.leader != leader for group in views):
        return False
    peers = {peer.name: peer for peer in views[names.index(leader)].replicas}
    followers = [peers.get(name) for name in names if name != leader]
    return all(peer is not None and peer.current and not peer.offline for peer in followers)


class CopyKeeper:
    """Repairs the copies of a cluster's brokers.

    `broker_lock` is held while one broker is stopped or restarted, so that never two are down at once.
    """

    def __init__(
        self,
        connection: Connection,
        brokers: Mapping[str, Child],
        stores: Mapping[str, Path],
        broker_lock: asyncio.Lock,
    ) -> None:
        self._connection = connection
        self._brokers = brokers
        self._stores = stores
        self._broker_lock = broker_lock

    async def for_ever(self) -> None:
        """Check the copies every second."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if not await self.look():
                await asyncio.sleep(RETRY_SECONDS)

    async def look(self) -> bool:
        """Repair a copy that lacks commits, where the other copies are whole. False where only a person can help."""
        async with self._broker_lock:
            found = await self._copies()
            lacking = {name: copy.lacking for name, copy in found.items() if copy.lacking}
            if not lacking:
                return True
            if len(lacking) == 1 and len(found) == len(self._brokers):
                (name,) = lacking
                log.error("broker %s lacks %s commits of the log: a file of it is damaged", name, lacking[name])
                if await self._refetch(name):
                    return True
        log.error("commits are lacking on %s; see the operations manual on damaged copies", ", ".join(lacking))
        return False

    async def _refetch(self, name: str) -> bool:
        """Delete a broker's store and let it fetch the log. False where the others lack something."""
        broker, others = self._brokers[name], [other for other in self._brokers if other != name]
        await broker.stop(STOP_SECONDS)
        # from here on both others have every acknowledged commit
        others_are_whole = await self._until_they_have_everything(others, SETTLE_SECONDS)
        try:
            if others_are_whole:
                await asyncio.to_thread(shutil.rmtree, self._stores[name])
        except OSError as error:  # the rest of the store is damaged; the next check finds it
            log.error("the files of %s cannot be deleted: %s", broker.name, error.strerror)
            others_are_whole = False
        try:
            await broker.start()
        except (ChildFailed, OSError) as error:
            log.error("%s does not come up: %s", broker.name, error)
            return False
        if others_are_whole and await self._until_they_have_everything(list(self._brokers), FETCH_SECONDS):
            log.warning("%s has fetched the log from the others", broker.name)
        return others_are_whole

    async def _until_they_have_everything(self, names: Sequence[str], seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        while not have_everything(await self._copies(), names):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(CHECK_SECONDS / 5)
        return True

    async def _copies(self) -> dict[str, Copy]:
        try:
            return await copies(self._connection, len(self._brokers))
        except NatsError:  # while the connection moves to another broker
            return {}
