"""Reads the log merged with its checkpoints: each comes right after the last commit that it covers."""

from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from events.aggregates.aggregate_names import CHECKPOINTS
from events.bus.connection import Connection
from events.log.consumer_reader import Batch
from events.log.direct_reader import read_direct
from events.log.grammar import Foreign
from events.log.jetstream_api import JetStreamMissing
from events.log.stored_message import StoredMessage
from events.log.stream import last_sequence
from notary.newest_checkpoint import read_known
from notary.signed_note import Key


class Place(NamedTuple):
    """A position: sequences in the log and in the checkpoints' stream, 0 at the beginning."""

    log: int = 0
    checkpoints: int = 0


async def read_with_checkpoints(
    connection: Connection,
    end: int,
    after: Place = Place(),  # noqa: B008  # a value
    keys: Sequence[Key] = (),
) -> AsyncGenerator[Batch, None]:
    """Yield the log up to sequence `end`, with the checkpoints in it, which differ from commits by their subject.

    A checkpoint that covers more than the log has comes last; those signed after `end` are left out. With `keys`, a
    checkpoint that none of them signed comes at once, so that it does not delay others. A log without the checkpoints'
    stream has none.
    """
    try:
        last = await last_sequence(connection, CHECKPOINTS)
    except JetStreamMissing:
        last = 0  # a copy of the log without checkpoints
    grown = await last_sequence(connection)
    checkpoints = _checkpoints(connection, after.checkpoints, last)
    async with aclosing(checkpoints), aclosing(read_direct(connection, after.log + 1, until=end)) as batches:
        due = await anext(checkpoints, None)
        async for messages, pending in batches:
            merged: list[StoredMessage] = []
            while due is not None and messages and (size := _size(due, keys)) <= messages[-1].seq:
                place = bisect_right(messages, size, key=_seq)
                merged += [*messages[:place], due]
                messages = messages[place:]
                due = await anext(checkpoints, None)
            yield Batch(merged + messages if merged else messages, pending)
        while due is not None and not end < _size(due, keys) <= grown:
            yield Batch([due], 0)
            due = await anext(checkpoints, None)


async def _checkpoints(connection: Connection, after: int, last: int) -> AsyncGenerator[StoredMessage, None]:
    if after >= last:
        return
    async with aclosing(read_direct(connection, after + 1, stream=CHECKPOINTS, until=last)) as batches:
        async for batch in batches:
            for stored in batch.messages:
                yield stored


def _size(stored: StoredMessage, keys: Sequence[Key]) -> int:
    checkpoint = read_known(stored, keys)
    return 0 if isinstance(checkpoint, Foreign) else checkpoint.size


def _seq(stored: StoredMessage) -> int:
    return stored.seq
