"""Builders of logs and of checkpoints over them."""

from collections.abc import Iterable, Sequence

from events.aggregates.aggregate_names import CHECKPOINT
from events.bus.connection import Connection
from events.log import stream
from events.log.stored_message import StoredMessage
from notary.checkpoint import Checkpoint, sign
from notary.merkle_tree import Tree, leaf_hash
from notary.signed_note import Signer
from tests.projections.logs import LogMaker


def tree_of(log: Iterable[StoredMessage]) -> Tree:
    """The Merkle tree over these messages."""
    return Tree().add(*(leaf_hash(stored.body) for stored in log))


def checkpoints_of(log: Sequence[StoredMessage], signer: Signer, *sizes: int) -> list[Checkpoint]:
    """A checkpoint for each size, over that many first messages of the log."""
    return [sign(signer, tree_of(log[:size])) for size in sizes]


def in_place(log: Sequence[StoredMessage], checkpoints: Sequence[Checkpoint]) -> list[StoredMessage]:
    """The log as the verifier reads it: each checkpoint right after the last commit that it covers."""
    merged, rest = [], [StoredMessage(seq, CHECKPOINT, each.signed.encode()) for seq, each in enumerate(checkpoints, 1)]
    for stored in log:
        merged.append(stored)
        while rest and checkpoints[len(checkpoints) - len(rest)].size <= stored.seq:
            merged.append(rest.pop(0))
    return merged + rest


async def empty(connection: Connection, *names: str) -> None:
    """Delete these streams and create them again, empty.

    nats-server 2.15 moves a deleted stream aside and removes it later. A stream that is deleted again before that
    stays in its place, and the new stream of its name begins with its messages: then this deletes it once more.
    """
    for name in names:
        end = None
        while end != 0:
            await connection.jetstream().delete_stream(name)
            await stream.ensure(connection, stream.Required())
            end = await stream.last_sequence(connection, name)


def rotated_log(*order: int) -> LogMaker:
    """19 commits: six families are opened, each is rotated, then six rotations in this order and one more of f5."""
    made = LogMaker()
    for number in range(6):
        made.open(f"f{number}")
    for number in (*range(6), *order):
        made.rotate(f"f{number}")
    made.rotate("f5")
    return made
