"""A copy of the log with a loss in its middle, which nats-server does not detect."""

import asyncio
import contextlib
import errno
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from events.bus.connection import Connection
from events.log import stream
from heirloom.broker import credentials
from heirloom.broker.cluster import BrokerOptions, brokers
from heirloom.broker.copy_repair import CopyKeeper, copies
from heirloom.broker.nats_server import HOST, free_ports
from heirloom.broker.own_connection import connect_as
from heirloom.broker.roles import ROLES
from heirloom.data_directory import DataDirectory, node_names
from heirloom.process.child_process import Child
from tests.faults.harness.copies import all_whole, copy_on, leader_of
from tests.faults.harness.disks import damaged, log_files
from tests.witness import ANYTHING, WITNESS

NODES = node_names(3)
MESSAGES, MESSAGE_BYTES = 12, 900_000
"""Enough for a second file, which nats-server starts every eight megabytes."""
PATIENCE_SECONDS = 40


class Cluster(NamedTuple):
    """Three brokers, and the service's connection to them."""

    data: Path
    nodes: dict[str, Child]
    connection: Connection


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """A cluster with a log of two files in three copies."""
    monkeypatch.setitem(ROLES, WITNESS, ANYTHING)
    known = credentials.ensure(tmp_path)
    ports = free_ports(len(NODES))
    nodes = dict(zip(NODES, brokers(DataDirectory(tmp_path), ports, known, BrokerOptions(sync="2m")), strict=True))
    async with contextlib.AsyncExitStack() as leaving:
        for node in nodes.values():
            leaving.push_async_callback(node.stop, 5)
        await asyncio.gather(*(node.start() for node in nodes.values()))
        connection = await connect_as(WITNESS, "test", ",".join(f"nats://{HOST}:{port}" for port in ports), known)
        leaving.push_async_callback(connection.close)
        await stream.ensure(connection, stream.Required(3))
        for number in range(MESSAGES):
            body = random.Random(number).randbytes(MESSAGE_BYTES)
            await connection.jetstream().publish(f"tokens.acme.family.{number}.issued", body)
        assert await all_whole(connection, NODES, PATIENCE_SECONDS)
        yield Cluster(tmp_path, nodes, connection)


async def test_a_damaged_copy_is_replaced_if_the_others_are_complete(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One node lost a file's messages and gets them again; if two did, neither copy is deleted."""
    broker_lock = asyncio.Lock()
    stores = {name: DataDirectory(cluster.data).node(name).store for name in NODES}
    keeper = CopyKeeper(cluster.connection, cluster.nodes, stores, broker_lock)
    leader = await leader_of(cluster.connection)
    one, other = (node for node in NODES if node != leader)
    lost = await _lose(cluster, one, "flipped")
    with monkeypatch.context() as patched:
        patched.setattr("heirloom.broker.copy_repair.shutil.rmtree", _cannot_delete)
        assert not await keeper.look()
    assert "cannot be deleted: Input/output error" in caplog.text
    assert await _lacking(cluster, one) == lost, "the node is back with the same loss"
    looking = asyncio.create_task(keeper.look())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while cluster.nodes[one].is_running:
            await asyncio.sleep(0.01)
    assert broker_lock.locked(), "no other broker may be stopped meanwhile"
    assert await looking
    digests = [await copy_on(cluster.connection, node, MESSAGES) for node in NODES]
    assert digests[0] == digests[1] == digests[2]
    losses = [await _lose(cluster, node, "truncated") for node in (one, other)]
    assert not await keeper.look()
    assert "commits are lacking on" in caplog.text
    assert [(await copies(cluster.connection, len(NODES)))[node].lacking for node in (one, other)] == losses


def _cannot_delete(_path: Path) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


async def _lose(cluster: Cluster, victim: str, how: str) -> int:
    """Damage the node's oldest file and restart it; returns the number of messages it lacks."""
    await _damage(cluster, victim, how)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (lacking := await _lacking(cluster, victim)):
            await asyncio.sleep(0.1)
    return lacking


async def _damage(cluster: Cluster, victim: str, how: str) -> None:
    first, *_ = log_files(cluster.data / victim)
    pid = int((cluster.data / victim / "nats.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    damaged(first, how, random.Random(1))
    os.kill(pid, signal.SIGKILL)


async def _lacking(cluster: Cluster, node: str) -> int:
    found = await copies(cluster.connection, len(NODES))
    return found[node].lacking if node in found else 0
