"""One run: start the service, send requests, inject faults, wait for recovery, check everything."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from nats.errors import Error as NatsError

from events.bus.connect import connect
from events.bus.connection import Connection
from events.log.jetstream_api import JetStreamMissing
from events.log.log import Log
from events.log.stored_message import StoredMessage
from heirloom.broker import credentials
from projections.read_model import ReadModel
from tests.faults.checking.availability import FULL_SERVICE_SECONDS, availability, full_service, known
from tests.faults.checking.checker import check
from tests.faults.checking.log_checker import Violation, copies_differ
from tests.faults.checking.log_index import index
from tests.faults.harness import copies
from tests.faults.harness.nemeses import Scene, rage
from tests.faults.harness.proxy import Links
from tests.faults.harness.stack import CLIENTS, Stack, read_model_rows
from tests.faults.history import History, Operation
from tests.faults.workload import Client, Workload

RECOVERY_SECONDS = 30.0
"""After the last fault the service may refuse requests for this long."""
HINDERED_SECONDS = 20.0
"""A read model that reports an obstacle may stand still for this long: it may be retrying."""


class Plan(NamedTuple):
    """`seconds` of `faults`, then `calm` seconds without. `pause` lies between two requests of a worker."""

    seed: int
    seconds: float
    faults: Sequence[str]
    gap: tuple[float, float] = (0.5, 4.0)
    calm: float = 3.0
    workers: int = 8
    pause: float = 0.005
    connections: int = 2
    """Connections of each client."""
    patience: float = 60.0
    """Seconds to wait for full service after the last fault."""


class Result(NamedTuple):
    """The outcome. `commits` is the log's length, `recovered` the seconds from the last fault to full service."""

    operations: list[Operation]
    faults: list[tuple[float, str]]
    commits: int
    recovered: float
    violations: list[Violation]


PARTIES = ("clients", "replica 1", "replica 2", "the projector")


async def run(stack: Stack, plan: Plan, directory: Path, tell: Callable[[str], None] = lambda _: None) -> Result:
    """Start the stack, run the plan, stop the stack. Writes `history.jsonl` into `directory`."""
    links = Links(PARTIES, stack.hosts)
    async with links.listening():
        stack.setup.links = {party: dict(zip(stack.hosts, links.hosts(party), strict=True)) for party in PARTIES[1:]}
        await asyncio.to_thread(stack.start)
        try:
            return await _run(stack, links, plan, directory, tell)
        finally:
            await asyncio.to_thread(stack.stop)


async def _run(stack: Stack, links: Links, plan: Plan, directory: Path, tell: Callable[[str], None]) -> Result:
    history = History(directory / "history.jsonl")
    async with stack.undisturbed() as witness, _clients(stack, links, plan) as clients:
        workload = Workload(history, clients, Log(witness), plan.seed, pause=plan.pause)
        working = asyncio.create_task(workload.run(plan.workers))
        tell("faults")
        await rage(Scene(stack, links, witness, random.Random(plan.seed)), plan.faults, history, plan.seconds, plan.gap)
        tell("recovery")
        ended = history.now()
        recovered = await _recovery(history, ended, plan)
        workload.stop.set()
        await working
        violations = availability(history.operations, ended + min(recovered, RECOVERY_SECONDS))
        tell("reading the log")
        log = await _whole_log(witness)
        if stack.brokers > 1 and not await copies.all_whole(witness, stack.nodes, RECOVERY_SECONDS):
            violations.append(Violation("every node catches up", "after the last fault"))
        elif stack.brokers > 1:
            violations += copies_differ({node: await copies.copy_on(witness, node, len(log)) for node in stack.nodes})
        async with stack.undisturbed(role="inquiry") as inquiry:  # the audit does not reply to the witness's inbox
            applied = await _applied(inquiry, len(log))
    history.close()
    tell("checking")
    await asyncio.to_thread(stack.stop)
    violations += check(history.operations, index(log))
    violations += _read_model_differs(stack, log, applied, directory)
    return Result(history.operations, history.faults, len(log), recovered, violations)


@contextlib.asynccontextmanager
async def _clients(stack: Stack, links: Links, plan: Plan) -> AsyncIterator[list[Client]]:
    known = credentials.load(stack.data)
    made: list[Client] = []
    for client_id, grace in CLIENTS.items():
        for _ in range(plan.connections):
            url = known.client_url("acme", client_id, ",".join(links.hosts("clients")))
            connection = await connect(url, client_id, inbox_prefix=f"_INBOX.acme.{client_id}")
            made.append(Client(connection, f"oauth.acme.client.{client_id}", grace))
    try:
        yield made
    finally:
        for client in made:
            await client.connection.close()


async def _recovery(history: History, ended: float, plan: Plan) -> float:
    """Seconds from the last fault to the start of lasting full service; returns after the calm."""
    while (waited := history.now() - ended) < plan.patience:
        if full_service(history.operations[-5000:], ended, history.now()):
            await asyncio.sleep(plan.calm)
            recovered = waited - FULL_SERVICE_SECONDS
            if not availability(known(history.operations), ended + recovered):
                return recovered  # otherwise requests that were waiting then have got no reply
        await asyncio.sleep(0.1)
    return waited


async def _whole_log(connection: Connection) -> list[StoredMessage]:
    async with asyncio.timeout(RECOVERY_SECONDS):
        while True:
            with contextlib.suppress(NatsError, JetStreamMissing):
                return await copies.whole_log(connection)
            await asyncio.sleep(0.2)


async def _applied(connection: Connection, end: int) -> int:
    """The read model's last sequence, once it has caught up or stopped moving."""
    applied, moved = 0, asyncio.get_running_loop().time()
    deadline = moved + RECOVERY_SECONDS
    while applied < end and (now := asyncio.get_running_loop().time()) < deadline:
        with contextlib.suppress(NatsError):
            reply = await connection.request("audit.acme.position", b"{}", timeout=2)
            position = msgspec.json.decode(reply.data)
            if position.get("applied_seq", 0) != applied or not position.get("obstacle"):
                applied, moved = position.get("applied_seq", 0), now
            elif now - moved > HINDERED_SECONDS:
                break
        await asyncio.sleep(0.1)
    return applied


def _read_model_differs(stack: Stack, log: list[StoredMessage], applied: int, directory: Path) -> list[Violation]:
    rule = "the read model is the fold of the log"
    if applied < len(log):
        return [Violation(rule, f"it stands at {applied} of {len(log)}")]
    anew = directory / "anew.db"
    model = ReadModel(anew)
    model.apply(log)
    model.close()
    there, wanted = read_model_rows(stack.data / "read-model.db"), read_model_rows(anew)
    if there == wanted:
        return []
    differing = next((pair for pair in zip(there, wanted, strict=False) if pair[0] != pair[1]), ("its length", ""))
    return [Violation(rule, f"{differing[0][:120]} is not {differing[1][:120]}")]
