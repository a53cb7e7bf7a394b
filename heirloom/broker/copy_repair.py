"""A copy of the log that lacks a commit is fetched anew from the others (ADR 0016).

A broker that comes back after a crash checks its files, drops what its checksum does not fit, with everything behind it
in the same file, and goes on with the rest. What is missing at the end it fetches; what is missing before, it never
misses, and calls itself current. But nothing in the log is ever deleted: a copy that has fewer messages than sequences
has lost some.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Mapping, Sequence

import msgspec
from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.log.stream import SUBJECTS
from heirloom.process.child_process import Child, ChildFailed

log = logging.getLogger("heirloom.up")

ASK = "$SYS.REQ.SERVER.PING.JSZ"
QUESTION = msgspec.json.encode({"accounts": True, "streams": True})
ANSWER_SECONDS = 1.0
LOOK_SECONDS = 1.0
END_SECONDS = 15
SETTLE_SECONDS = 15
"""How long the others may take to agree, without the one that was ended, on who leads and that both have everything."""
FETCH_SECONDS = 600
"""For so long nobody else is ended meanwhile, at most."""
REST_SECONDS = 60
"""After an attempt that the others did not allow."""


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


class _Stream(msgspec.Struct):
    name: str
    state: _State
    cluster: _Group = msgspec.field(default_factory=_Group)


class _Account(msgspec.Struct):
    stream_detail: list[_Stream] = []


class Copy(msgspec.Struct):
    """What one broker tells of its streams, and of the groups it leads."""

    meta_cluster: _Group = msgspec.field(default_factory=_Group)
    account_details: list[_Account] = []

    @property
    def streams(self) -> list[_Stream]:
        """Those on its disk."""
        return [stream for account in self.account_details for stream in account.stream_detail]

    @property
    def groups(self) -> list[tuple[str, _Group]]:
        """Who decides together: on the streams there are, and on what is in each."""
        return [("", self.meta_cluster), *((stream.name, stream.cluster) for stream in self.streams)]

    @property
    def lacking(self) -> int:
        """How many messages of the log, and of its checkpoints, it has lost."""
        return sum(stream.state.last_seq - stream.state.messages for stream in self.streams if stream.name in SUBJECTS)


class _Server(msgspec.Struct):
    name: str


class _Reply(msgspec.Struct):
    server: _Server
    data: Copy


_decoder = msgspec.json.Decoder(_Reply)


async def copies(connection: Connection, count: int) -> dict[str, Copy]:
    """By the broker's name; those of `count` brokers that answer within a second."""
    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox)
    found: dict[str, Copy] = {}
    try:
        await connection.publish(ASK, QUESTION, reply=inbox)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                while len(found) < count:
                    reply = _decoder.decode((await subscription.next_msg(ANSWER_SECONDS)).data)
                    found[reply.server.name] = reply.data
    finally:
        await subscription.unsubscribe()
    return found


def have_everything(found: Mapping[str, Copy], names: Sequence[str]) -> bool:
    """Whether these brokers lack nothing, and one of them leads each group with the rest of them current."""
    if any(name not in found or found[name].lacking for name in names):
        return False
    told: dict[str, list[_Group]] = {}
    for name in names:
        for of_what, group in found[name].groups:
            told.setdefault(of_what, []).append(group)
    return all(len(groups) == len(names) and _agreed(groups, names) for groups in told.values())


def _agreed(told: Sequence[_Group], names: Sequence[str]) -> bool:
    """Only who leads a group knows who is current in it."""
    leader = told[0].leader
    if leader not in names or any(group.leader != leader for group in told):
        return False
    peers = {peer.name: peer for peer in told[names.index(leader)].replicas}
    followers = [peers.get(name) for name in names if name != leader]
    return all(peer is not None and peer.current and not peer.offline for peer in followers)


class CopyKeeper:
    """Looks after the copies of a cluster's brokers. `hands` is held by whoever decides on one of them, until that is
    done.
    """

    def __init__(self, connection: Connection, brokers: Mapping[str, Child], hands: asyncio.Lock) -> None:
        self._connection = connection
        self._brokers = brokers
        self._hands = hands

    async def for_ever(self) -> None:
        """Look every second."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not await self.look():
                await asyncio.sleep(REST_SECONDS)

    async def look(self) -> bool:
        """If one copy lacks something and the others nothing, have it fetched anew. False if something is left to a
        person.
        """
        async with self._hands:
            found = await self._copies()
            lacking = {name: copy.lacking for name, copy in found.items() if copy.lacking}
            if not lacking:
                return True
            if len(lacking) == 1 and len(found) == len(self._brokers):
                (name,) = lacking
                log.error("broker %s lacks %s commits of the log: a file of it is damaged", name, lacking[name])
                if await self._fetched_anew(name):
                    return True
        log.error("commits are lacking on %s; see the operations manual on damaged copies", ", ".join(lacking))
        return False

    async def _fetched_anew(self, name: str) -> bool:
        broker, others = self._brokers[name], [other for other in self._brokers if other != name]
        await broker.stop(END_SECONDS)
        # from here on nothing is acknowledged that the others do not both have
        they_have = await self._until_they_have_everything(others, SETTLE_SECONDS)
        try:
            if they_have:
                assert broker.words is not None  # a broker's go to a file, beside its log
                await asyncio.to_thread(shutil.rmtree, broker.words.parent / "jetstream")
        except OSError as error:  # whatever is left of it is damaged, and is looked at again
            log.error("the files of %s cannot be deleted: %s", broker.name, error.strerror)
            they_have = False
        try:
            await broker.start()
        except (ChildFailed, OSError) as error:
            log.error("%s does not come up: %s", broker.name, error)
            return False
        if they_have and await self._until_they_have_everything(list(self._brokers), FETCH_SECONDS):
            log.warning("%s has fetched the log from the others", broker.name)
        return they_have

    async def _until_they_have_everything(self, names: Sequence[str], seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        while not have_everything(await self._copies(), names):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS / 5)
        return True

    async def _copies(self) -> dict[str, Copy]:
        try:
            return await copies(self._connection, len(self._brokers))
        except NatsError:  # between two brokers: nobody is told of
            return {}
