"""The newest checkpoint is the largest one signed by a known key, whatever was published after it (ADR 0024)."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS
from events.log.consumer_reader import Batch
from events.log.grammar import Foreign
from events.log.stored_message import StoredMessage
from notary import newest_checkpoint as module
from notary.checkpoint import MAX_BYTES, Checkpoint, sign
from notary.checkpoint_checker import CheckpointChecker
from notary.merkle_tree import Tree
from notary.newest_checkpoint import largest, newest_checkpoint, read_known
from notary.signed_note import Signer

OURS, STRANGER = Signer.fresh("heirloom/ours"), Signer.fresh("heirloom/stranger")


@st.composite
def checkpoints(draw: st.DrawFn) -> list[StoredMessage]:
    """Our checkpoints, a stranger's, and junk, in any order."""
    bodies = [
        b"junk",
        b"\n" * (MAX_BYTES + 1),
        *(
            sign(signer, Tree().add(*[bytes(32)] * size)).signed.encode()
            for signer in (OURS, STRANGER)
            for size in range(5)
        ),
    ]
    chosen = draw(st.lists(st.sampled_from(bodies), max_size=12))
    return [StoredMessage(seq, CHECKPOINT, body) for seq, body in enumerate(chosen, 1)]


@given(checkpoints())
def test_the_largest_signed_by_a_known_key_counts(stream: list[StoredMessage]) -> None:
    """Everything after it is named, as a reader of the whole stream names it."""
    read = [(stored, read_known(stored, [])) for stored in stream]
    found: list[Foreign] = []
    newest = largest(read, [OURS.key], found.append)
    known = [(stored.seq, each) for stored in stream if isinstance(each := read_known(stored, [OURS.key]), Checkpoint)]
    assert newest == max((each for _, each in known), key=lambda each: each.size, default=None)
    first = next((seq for seq, each in known if each == newest), 0)
    assert [foreign.seq for foreign in found] == list(range(first + 1, len(stream) + 1))
    checker = CheckpointChecker(keys=[OURS.key])
    for stored in stream:
        checker.check(stored)
    assert set(found) <= set(checker.state.foreign)


@pytest.mark.parametrize(("last", "start"), [(0, 1), (3, 1), (1000, 1), (1001, 2), (2500, 1501)])
async def test_the_last_thousand_messages_are_searched(monkeypatch: pytest.MonkeyPatch, last: int, start: int) -> None:
    """The largest of them counts; everything after it is named."""
    bodies = [b"junk", of(4), of(3), of(9, STRANGER), b"junk", of(2)]
    stream = [StoredMessage(last - len(bodies) + place, CHECKPOINT, body) for place, body in enumerate(bodies, 1)]
    connection, closed = cast("Any", object()), []

    async def read(given: Any, begin: int, **asked: Any) -> AsyncIterator[Batch]:
        assert (given, begin, asked) == (connection, start, {"stream": CHECKPOINTS, "until": last})
        try:
            yield Batch(stream[:2], 4)
            yield Batch(stream[2:], 0)
        finally:
            closed.append(True)

    kept: list[bytes] = []

    def noting(read: Any, *others: Any) -> Checkpoint | None:
        kept.extend(stored.body for stored, _ in read)
        return largest(read, *others)

    monkeypatch.setattr(module, "read_direct", read)
    monkeypatch.setattr(module, "largest", noting)
    found: list[Foreign] = []
    newest = await newest_checkpoint(connection, last, [OURS.key], found.append)
    assert newest is not None and newest.signed.encode() == of(4) and closed == [True]
    assert kept == [b""] * len(stream), "a stranger's message may be as large as the broker accepts"
    assert [(each.seq, each.subject, each.stream) for each in found] == [
        (stored.seq, CHECKPOINT, CHECKPOINTS) for stored in stream[2:]
    ]
    assert [each.reason for each in found] == [
        "a checkpoint of size 3 after one of size 4",
        "a checkpoint that no known key has signed",
        "no checkpoint: not a signed note",
        "a checkpoint of size 2 after one of size 4",
    ]


def of(size: int, signer: Signer = OURS) -> bytes:
    """A checkpoint of that size, as bytes."""
    return sign(signer, Tree().add(*[bytes(32)] * size)).signed.encode()


def test_without_keys_any_signature_counts() -> None:
    """Without a checkpoint the result is None."""
    found: list[Foreign] = []
    stream = [StoredMessage(1, CHECKPOINT, of(4)), StoredMessage(2, CHECKPOINT, of(9, STRANGER))]
    read = [(stored, read_known(stored, [])) for stored in stream]
    newest = largest(read, [], found.append)
    assert newest is not None and newest.size == 9 and found == []
    assert largest([], [OURS.key], found.append) is None
    assert largest(read[1:], [OURS.key], found.append) is None and [each.seq for each in found] == [2]


def test_of_two_equal_sizes_the_first_counts() -> None:
    """The second is named; messages before the first are not."""
    stream = [StoredMessage(1, CHECKPOINT, b"junk"), *(StoredMessage(seq, CHECKPOINT, of(4)) for seq in (2, 3))]
    found: list[Foreign] = []
    newest = largest([(stored, read_known(stored, [])) for stored in stream], [OURS.key], found.append)
    assert newest is not None and newest.size == 4
    assert [(each.seq, each.reason) for each in found] == [(3, "a checkpoint of size 4 after one of size 4")]
