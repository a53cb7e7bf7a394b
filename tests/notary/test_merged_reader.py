"""The log and its checkpoints are read together: each checkpoint right after the last message that it covers."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS, STREAM
from events.log.consumer_reader import Batch
from events.log.jetstream_api import JetStreamMissing
from events.log.stored_message import StoredMessage
from notary import merged_reader
from notary.checkpoint import sign
from notary.merged_reader import Place, read_with_checkpoints
from notary.merkle_tree import Tree
from notary.signed_note import Key, Signer

SIGNER, STRANGER = Signer.fresh("heirloom/1"), Signer.fresh("heirloom/1")


class Streams:
    """A log of that length, and checkpoints of these sizes: a negative one is a stranger's, 0 is junk."""

    def __init__(self, length: int, *sizes: int, batch: int = 4) -> None:
        self.log = [StoredMessage(seq, "tokens.acme.tenant", b"") for seq in range(1, length + 1)]
        self.checkpoints = [StoredMessage(seq, CHECKPOINT, self._body(size)) for seq, size in enumerate(sizes, 1)]
        self.batch, self.closed, self.missing = batch, 0, False
        self.read: list[tuple[str, int, int]] = []

    @staticmethod
    def _body(size: int) -> bytes:
        tree = Tree().add(*[bytes(32)] * abs(size))
        return sign(SIGNER if size > 0 else STRANGER, tree).signed.encode() if size else b"junk"

    async def last_sequence(self, connection: Any, name: str = STREAM) -> int:
        """As `stream.last_sequence`."""
        assert connection is self
        if name == CHECKPOINTS and self.missing:
            raise JetStreamMissing
        return len(self.checkpoints if name == CHECKPOINTS else self.log)

    async def read_direct(
        self, connection: Any, start: int, *, until: int, stream: str = STREAM
    ) -> AsyncIterator[Batch]:
        """As `direct_reader.read_direct`."""
        assert connection is self
        self.read.append((stream, start, until))
        messages = (self.checkpoints if stream == CHECKPOINTS else self.log)[start - 1 : until]
        try:
            for first in range(0, len(messages), self.batch):
                rest = len(messages) - first - self.batch
                yield Batch(messages[first : first + self.batch], max(rest, 0))
        finally:
            self.closed += 1


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that has these streams be read."""

    def patch(streams: Streams) -> Streams:
        monkeypatch.setattr(merged_reader, "last_sequence", streams.last_sequence)
        monkeypatch.setattr(merged_reader, "read_direct", streams.read_direct)
        return streams

    return patch


async def all_of(streams: Streams, end: int, *more: Any) -> tuple[list[list[str]], list[int]]:
    """The batches, a checkpoint as `c<seq>`, and how many messages were pending after each."""
    batches, pending = [], []
    async for batch in read_with_checkpoints(cast("Any", streams), end, *more):
        batches.append([f"{'c' * (each.subject == CHECKPOINT)}{each.seq}" for each in batch.messages])
        pending.append(batch.pending)
    return batches, pending


KEYS: list[Key] = [SIGNER.key]


@pytest.mark.parametrize(
    ("streams", "end", "batches"),
    [
        (Streams(6), 6, ["1 2 3 4", "5 6"]),
        (Streams(6, 2), 6, ["1 2 c1 3 4", "5 6"]),
        (Streams(6, 2, 3, 4), 6, ["1 2 c1 3 c2 4 c3", "5 6"]),
        (Streams(6, 4, 5, 6), 6, ["1 2 3 4 c1", "5 c2 6 c3"]),
        (Streams(6, 4), 3, ["1 2 3"]),
        (Streams(6, 3), 3, ["1 2 3 c1"]),
        (Streams(6, 2, 2, 1), 6, ["1 2 c1 c2 c3 3 4", "5 6"]),
        (Streams(6, 2, -5, 3), 6, ["1 2 c1 c2 3 c3 4", "5 6"]),
        (Streams(6, 0, 5), 6, ["c1 1 2 3 4", "5 c2 6"]),
        (Streams(6, 9), 6, ["1 2 3 4", "5 6", "c1"]),
        (Streams(6, 6), 5, ["1 2 3 4", "5"]),
        (Streams(6, 7, -6), 5, ["1 2 3 4", "5", "c1", "c2"]),
        (Streams(6, 9, 5, 0), 6, ["1 2 3 4", "5 6", "c1", "c2", "c3"]),
        (Streams(6, 5, 3, 9), 3, ["1 2 3"]),
        (Streams(6, 9, 5, 3), 3, ["1 2 3", "c1"]),
        (Streams(6, 1, 2, 3, 4, 5, 6), 6, ["1 c1 2 c2 3 c3 4 c4", "5 c5 6 c6"]),
        (Streams(0, 3), 0, ["c1"]),
        (Streams(0, 0), 0, ["c1"]),
        (Streams(0), 0, []),
    ],
)
async def test_each_checkpoint_comes_after_what_it_covers(
    patched: Any, streams: Streams, end: int, batches: list[str]
) -> None:
    """One beyond the end comes last; one that was signed after the end was read is left out."""
    found, _ = await all_of(patched(streams), end, Place(), KEYS)
    assert found == [batch.split() for batch in batches]
    assert streams.closed == len(streams.read), "nobody is left reading"


async def test_it_reports_how_many_messages_are_pending(patched: Any) -> None:
    """Messages of the log; checkpoints are not counted."""
    _, pending = await all_of(patched(Streams(10, 2, 12)), 10, Place(), KEYS)
    assert pending == [6, 2, 0, 0]


async def test_it_resumes_from_a_place(patched: Any) -> None:
    """In both streams; earlier messages are not read."""
    streams = patched(Streams(6, 2, 3, 5))
    assert (await all_of(streams, 6, Place(3, 2), KEYS))[0] == [["4", "5", "c3", "6"]]
    assert sorted(streams.read) == [(CHECKPOINTS, 3, 3), (STREAM, 4, 6)]
    streams.read.clear()
    assert (await all_of(streams, 6, Place(3, 3), KEYS))[0] == [["4", "5", "6"]]
    assert streams.read == [(STREAM, 4, 6)], "there is no checkpoint more"


async def test_without_keys_every_signature_counts(patched: Any) -> None:
    """And reading begins at the start where no place is given."""
    assert (await all_of(patched(Streams(4, -2)), 4))[0] == [["1", "2", "c1", "3", "4"]]
    assert (await all_of(patched(Streams(4, -2)), 4, Place(), KEYS))[0] == [["c1", "1", "2", "3", "4"]]


async def test_a_log_without_a_checkpoint_stream(patched: Any) -> None:
    """As in a copy of the log."""
    streams = patched(Streams(4, 2))
    streams.missing = True
    assert (await all_of(streams, 4, Place(), KEYS))[0] == [["1", "2", "3", "4"]]
