"""The faults by name, and the choice among them."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from nats.errors import Error as NatsError

from events.bus.connection import Connection
from tests.faults.harness.copies import all_whole, leader_of
from tests.faults.harness.disks import damaged, fill, log_files
from tests.faults.harness.orders import Orders
from tests.faults.harness.proxy import Links, Mode
from tests.faults.harness.stack import REPLICAS, Stack
from tests.faults.history import History

RESTARTED_SECONDS = 60.0
OBEYED_SECONDS = 60.0
NEARLY_FULL = 24 << 20
CLOSED_SECONDS = 30.0


class Scene(NamedTuple):
    """The service, its links, an undisturbed connection, and the seeded random numbers."""

    stack: Stack
    links: Links
    witness: Connection
    chance: random.Random


Fault = Callable[[Scene], Awaitable[object]]
"""Injects a fault and ends it again."""


async def rage(scene: Scene, faults: Sequence[str], history: History, seconds: float, gap: tuple[float, float]) -> None:
    """Inject one fault after the other for that long, with `gap` seconds between them; each comes once in a round."""
    waiting: list[str] = []
    while history.now() < seconds:
        await asyncio.sleep(scene.chance.uniform(*gap))
        if not faults:
            continue
        if not waiting:
            waiting = scene.chance.sample(list(faults), len(faults))
        name = waiting.pop()
        history.fault(name)
        await FAULTS[name](scene)


def kill(pids: Sequence[int]) -> None:
    """Kill -9 those of the processes that still exist."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def lost_acknowledgements(scene: Scene) -> None:
    """A replica loses half of the log's acknowledgements."""
    replica = scene.chance.randint(1, REPLICAS)
    scene.stack.order(replica, Orders(deafness=0.5))
    await asyncio.sleep(scene.chance.uniform(1, 2))
    scene.stack.order(replica, Orders())


async def replica_dies_between_append_and_reply(scene: Scene) -> None:
    """The commit is stored, and no reply is sent."""
    replica = scene.chance.randint(1, REPLICAS)
    async with asyncio.timeout(OBEYED_SECONDS):
        while (told := scene.stack.order(replica, Orders(die=True))) is None:
            await asyncio.sleep(0.05)  # the replica is being restarted
        while told in scene.stack.pids("tests.faults.harness.replica"):
            await asyncio.sleep(0.05)  # without a leader nothing is appended, and it does not die


async def projector_dies_within_its_transaction(scene: Scene) -> None:
    """The read model's writer dies between the checkpoint and its rows."""
    scene.stack.order_writer_to_die()


async def clock_jumps(scene: Scene) -> None:
    """One replica's clock is wrong by an hour for some seconds."""
    replica = scene.chance.randint(1, REPLICAS)
    scene.stack.order(replica, Orders(clock=scene.chance.choice((-3600, 3600))))
    await asyncio.sleep(scene.chance.uniform(1, 5))
    scene.stack.order(replica, Orders())


async def process_paused(scene: Scene) -> None:
    """SIGSTOP of any process, for 1 to 30 seconds, mostly few."""
    pid = scene.chance.choice(scene.stack.everything())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(min(1 + scene.chance.expovariate(1 / 4), 30))
        os.kill(pid, signal.SIGCONT)


async def leader_killed(scene: Scene) -> None:
    """Kill the broker that leads the stream."""
    if leader := await _leader(scene):
        kill([scene.stack.broker(leader)])
    await _restarted(scene)


async def follower_killed(scene: Scene) -> None:
    """Kill a broker that does not lead."""
    leader = await _leader(scene)
    kill([scene.stack.broker(scene.chance.choice([name for name in scene.stack.nodes if name != leader]))])
    await _restarted(scene)


async def two_killed(scene: Scene) -> None:
    """Kill the majority at once."""
    kill([scene.stack.broker(name) for name in scene.chance.sample(scene.stack.nodes, 2)])
    await _restarted(scene)


async def all_killed(scene: Scene) -> None:
    """Kill every broker at once."""
    kill(scene.stack.pids("nats-server"))
    await _restarted(scene)


def link(mode: Mode | None) -> Fault:
    """Disturb all links of one party for some seconds; None: reset them once."""

    async def disturbed(scene: Scene) -> None:
        links = scene.links.of[scene.chance.choice(list(scene.links.of))].values()
        if mode is None:
            for one in links:
                one.reset()
            return
        for one in links:
            one.disturb(mode)
        await asyncio.sleep(scene.chance.uniform(1, 6))
        for one in links:
            one.disturb("open")

    return disturbed


def damage(how: str) -> Fault:
    """Stop a follower, damage any file of its log, and start it again."""

    async def damaging(scene: Scene) -> None:
        leader = await _leader(scene)
        if leader is None:
            return
        victim = scene.chance.choice([name for name in scene.stack.nodes if name != leader])
        pid = scene.stack.broker(victim)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            if files := log_files(scene.stack.data / victim):
                damaged(scene.chance.choice(files), how, scene.chance)
            os.kill(pid, signal.SIGKILL)
        await _restarted(scene)
        await _healed(scene)

    return damaging


async def book_closed(scene: Scene) -> None:
    """The log's book is closed. That may be refused or take long, if something else is wrong at the time."""
    with contextlib.suppress(NatsError, OSError):
        async with scene.stack.role("operator") as operator:
            await operator.connection.request("admin._.log.close", b"{}", timeout=CLOSED_SECONDS)


async def disk_full(scene: Scene) -> None:
    """One broker's disk fills up within seconds, stays full for some more, and gets room again."""
    disk = scene.stack.small_disk
    filler = await asyncio.to_thread(fill, disk, NEARLY_FULL)
    await asyncio.sleep(2)
    for _ in range(4):
        await asyncio.to_thread(fill, disk)
        await asyncio.sleep(scene.chance.uniform(0.5, 1.5))
    filler.unlink()
    await _restarted(scene)


async def _leader(scene: Scene) -> str | None:
    with contextlib.suppress(NatsError):
        return await leader_of(scene.witness)
    return None


async def _restarted(scene: Scene) -> None:
    """Wait until all brokers run again, so that the next fault finds one."""
    async with asyncio.timeout(RESTARTED_SECONDS):
        while len(scene.stack.pids("nats-server")) < scene.stack.brokers:
            await asyncio.sleep(0.05)


async def _healed(scene: Scene) -> None:
    """Wait until every copy is complete. Three copies do not promise to survive a second fault before that."""
    with contextlib.suppress(NatsError):
        await all_whole(scene.witness, scene.stack.nodes, RESTARTED_SECONDS)


FAULTS: dict[str, Fault] = {
    "acknowledgements lost": lost_acknowledgements,
    "replica killed between append and reply": replica_dies_between_append_and_reply,
    "projector killed within its transaction": projector_dies_within_its_transaction,
    "clock an hour wrong": clock_jumps,
    "process paused": process_paused,
    "leader killed": leader_killed,
    "follower killed": follower_killed,
    "two brokers killed": two_killed,
    "all brokers killed": all_killed,
    "link drops": link("drop"),
    "link delays": link("delay"),
    "link half open": link("half-open"),
    "link reset": link(None),
    "stream file truncated": damage("truncated"),
    "stream file flipped": damage("flipped"),
    "disk full": disk_full,
    "book closed": book_closed,
}
