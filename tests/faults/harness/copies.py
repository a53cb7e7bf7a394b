"""The copy of the log on each node's own disk."""

import asyncio
import hashlib
import uuid
from collections.abc import Sequence

import msgspec
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import ServiceUnavailableError

from events.bus.connection import Connection
from events.log.books import books_of
from events.log.consumer_reader import read
from events.log.stored_message import StoredMessage
from events.log.stream import last_sequence
from heirloom.broker.copy_repair import copies, have_everything

FETCH = 500
READ_SECONDS = 300.0


async def whole_log(connection: Connection) -> list[StoredMessage]:
    """Every message, in order."""
    end = await last_sequence(connection)
    return [stored async for batch in read(connection, until=end) for stored in batch.messages]


async def copy_on(connection: Connection, node: str, length: int) -> list[str]:
    """The digests of the first `length` messages on that node, of all books."""
    await books_of(connection).look()
    digests: list[str] = []
    for book in books_of(connection).in_order():
        last = length if book.last is None else min(book.last, length)
        digests += await _book_on(connection, node, book.stream, last - len(digests))
    return digests


async def _book_on(connection: Connection, node: str, stream: str, length: int) -> list[str]:
    """The digests of a book's first `length` messages on that node.

    An unreplicated consumer reads from the disk of its node. The cluster chooses the node, so the consumer is created
    again until it is on the right one.
    """
    jetstream = connection.jetstream(timeout=5)
    while True:
        name = f"copy-{uuid.uuid4().hex}"
        config = ConsumerConfig(
            name=name,
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.ALL,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=30,
        )
        info = await jetstream.add_consumer(stream, config)
        if info.cluster is None or info.cluster.leader == node:
            break
        await jetstream.delete_consumer(stream, name)
    subscription = await jetstream.pull_subscribe_bind(name, stream)
    digests: list[str] = []
    async with asyncio.timeout(READ_SECONDS):
        while len(digests) < length:
            try:
                messages = await subscription.fetch(min(FETCH, length - len(digests)), timeout=10)
            except ServiceUnavailableError:  # its node does not serve it yet
                await asyncio.sleep(0.1)
                continue
            for message in messages:
                place = f"{message.metadata.sequence.stream} {message.subject} ".encode()
                digests.append(hashlib.sha256(place + message.data).hexdigest())
    await subscription.unsubscribe()
    await jetstream.delete_consumer(stream, name)
    return digests


async def leader_of(connection: Connection) -> str | None:
    """The node that leads the stream now, if there is one."""
    stream = books_of(connection).newest.stream  # as of the last look
    reply = await connection.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=2)
    leader: str | None = msgspec.json.decode(reply.data).get("cluster", {}).get("leader")
    return leader


async def all_whole(connection: Connection, nodes: Sequence[str], seconds: float) -> bool:
    """Whether within that time every copy is complete and has caught up with the leader."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        if have_everything(await copies(connection, len(nodes)), nodes):
            return True
        await asyncio.sleep(0.2)
    return False
