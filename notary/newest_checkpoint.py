"""Finds the newest checkpoint in its stream, also below foreign messages (ADR 0024)."""

from collections.abc import Callable, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from events.aggregates.aggregate_names import CHECKPOINTS
from events.bus.connection import Connection
from events.log.direct_reader import read_direct
from events.log.grammar import Foreign, foreign
from events.log.stored_message import StoredMessage
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.signed_note import Key, MalformedNote

LOOK_BACK = 1000
"""How many messages are searched: anybody with the notary's role can publish many."""


def read_known(stored: StoredMessage, keys: Sequence[Key]) -> Checkpoint | Foreign:
    """Read the checkpoint in a message, signed by one of `keys` if there are any, or find why it is foreign."""
    read = _read(stored)
    return read if isinstance(read, Foreign) else _known(stored, read, keys)


def shown_again(stored: StoredMessage, size: int, newest: int) -> Foreign:
    """Describe a checkpoint that covers no more than an earlier one."""
    return foreign(stored, f"a checkpoint of size {size} after one of size {newest}", CHECKPOINTS)


async def newest_checkpoint(
    connection: Connection, last: int, keys: Sequence[Key], found: Callable[[Foreign], None]
) -> Checkpoint | None:
    """Find the checkpoint that covers most in the `LOOK_BACK` messages up to sequence `last`; None without any.

    `found` receives the messages after it: those that no known key signed, and older checkpoints published again.
    Raises `Unavailable`.
    """
    read: list[tuple[StoredMessage, Checkpoint | Foreign]] = []
    start = max(last - LOOK_BACK, 0) + 1
    async with aclosing(read_direct(connection, start, stream=CHECKPOINTS, until=last)) as batches:
        async for batch in batches:
            read += [(replace(stored, body=b""), _read(stored)) for stored in batch.messages]
    return largest(read, keys, found)


def largest(
    read: Sequence[tuple[StoredMessage, Checkpoint | Foreign]], keys: Sequence[Key], found: Callable[[Foreign], None]
) -> Checkpoint | None:
    """As `newest_checkpoint`, from messages in their order. Only signatures that may matter are checked."""
    newest, place = None, 0
    for stored, checkpoint in reversed(read):
        if isinstance(checkpoint, Foreign) or (newest is not None and checkpoint.size < newest.size):
            continue
        if isinstance(_known(stored, checkpoint, keys), Checkpoint):
            newest, place = checkpoint, stored.seq
    for stored, checkpoint in read:
        if stored.seq <= place:
            continue
        known = checkpoint if isinstance(checkpoint, Foreign) else _known(stored, checkpoint, keys)
        if newest is not None and isinstance(known, Checkpoint):
            known = shown_again(stored, known.size, newest.size)
        if isinstance(known, Foreign):
            found(known)
    return newest


def _read(stored: StoredMessage) -> Checkpoint | Foreign:
    try:
        return read_checkpoint(stored.body)
    except MalformedNote as error:
        return foreign(stored, f"no checkpoint: {error}", CHECKPOINTS)


def _known(stored: StoredMessage, checkpoint: Checkpoint, keys: Sequence[Key]) -> Checkpoint | Foreign:
    if keys and not checkpoint.is_signed_by(keys):
        return foreign(stored, "a checkpoint that no known key has signed", CHECKPOINTS)
    return checkpoint
