"""The checker by itself: its findings for each message and each checkpoint, and the state it resumes from."""

from typing import Any

import pytest

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS
from events.log.grammar import Foreign
from events.log.stored_message import StoredMessage
from notary import checkpoint_checker as module
from notary.checkpoint import Checkpoint, sign
from notary.checkpoint_checker import CheckpointChecker, CheckState, Contradiction
from notary.merkle_tree import Tree, leaf_hash
from notary.signed_note import Signer

SIGNER, STRANGER = Signer.fresh("heirloom/1"), Signer.fresh("heirloom/1")
KEYS = [SIGNER.key]
LOG = [StoredMessage(seq, "tokens.acme.tenant", str(seq).encode()) for seq in range(1, 11)]
LEAVES = [leaf_hash(stored.body) for stored in LOG]


def checkpoint(size: int, other: bool = False, signer: Signer = SIGNER) -> Checkpoint:
    """A checkpoint over the first `size` leaves, or over as many others."""
    return sign(signer, Tree().add(*(leaf_hash(b"other") if other else leaf for leaf in LEAVES[:size])))


def message(seq: int, made: Checkpoint) -> StoredMessage:
    """That checkpoint as a message of its stream."""
    return StoredMessage(seq, CHECKPOINT, made.signed.encode())


def after(*parts: Any, kept: Checkpoint | None = None, seen: CheckState | None = None) -> CheckpointChecker:
    """A checker after these parts, in order: a number of messages of the log, or a checkpoint."""
    made = CheckpointChecker(KEYS, kept) if seen is None else CheckpointChecker(KEYS, kept, seen)
    place, checkpoints = made.state.tree.size, made.state.checkpoints
    for part in parts:
        if isinstance(part, int):
            made.read(LOG[place : place + part])
            place += part
        else:
            checkpoints += 1
            made.check(message(checkpoints, part))
    return made


def test_it_starts_empty_or_from_a_whole_state() -> None:
    assert after().state == CheckState(
        Tree(), b"", checkpoints=0, newest=0, covered=0, contradiction=None, foreign_count=0, foreign=()
    )
    foreign = (Foreign(2, CHECKPOINT, "why", CHECKPOINTS),)
    seen = CheckState(
        Tree().add(*LEAVES[:3]),
        LEAVES[2],
        checkpoints=2,
        newest=3,
        covered=3,
        contradiction=Contradiction(1, 2, "why"),
        foreign_count=1,
        foreign=foreign,
    )
    assert CheckpointChecker(KEYS, seen=seen).state == seen


def test_an_agreeing_checkpoint_covers_the_log() -> None:
    """Up to its size; of several, the largest counts."""
    assert after(4, checkpoint(4), 3, checkpoint(7), 1).state == CheckState(
        Tree().add(*LEAVES[:8]), LEAVES[7], checkpoints=2, newest=7, covered=7
    )
    assert after(4, checkpoint(4), 0).state.last_leaf == LEAVES[3], "nothing more is nothing new"


def test_only_the_first_missing_message_is_named() -> None:
    """With its sequence, and the sequence after the gap."""
    made = CheckpointChecker()
    made.read(LOG[:2])
    made.read([LOG[3], LOG[5]])
    assert made.state.contradiction == Contradiction(3, 3, "missing; the stream goes on at 4")
    assert made.state.tree.size == 4


DIFFERS = "history differs {}: the checkpoint of size {} was signed over another one"


@pytest.mark.parametrize(
    ("parts", "found", "covered"),
    [
        ((4, checkpoint(4, other=True)), Contradiction(1, 4, DIFFERS.format("somewhere in 1 to 4", 4)), 0),
        ((1, checkpoint(1, other=True)), Contradiction(1, 1, DIFFERS.format("here", 1)), 0),
        ((4, checkpoint(4), 1, checkpoint(5, other=True)), Contradiction(5, 5, DIFFERS.format("here", 5)), 4),
        (
            (4, checkpoint(4, other=True), 2, checkpoint(6)),
            Contradiction(1, 4, DIFFERS.format("somewhere in 1 to 4", 4)),
            6,
        ),
        ((4, checkpoint(6)), Contradiction(5, 6, "missing: a checkpoint covers 6 commits, the log ends at 4"), 0),
    ],
)
def test_the_first_contradiction_counts(parts: tuple[Any, ...], found: Contradiction, covered: int) -> None:
    """Its range begins after the last checkpoint that agreed."""
    made = after(*parts)
    assert (made.state.contradiction, made.state.covered) == (found, covered)


def test_a_missing_checkpoint_is_named() -> None:
    """By its sequence in its own stream, and how far the log had been read."""
    made = after(4)
    made.check(message(2, checkpoint(4)))
    assert made.state.contradiction == Contradiction(4, 4, "missing; the checkpoints go on at 2", checkpoint=1)
    assert (made.state.checkpoints, made.state.covered) == (1, 4)


@pytest.mark.parametrize(
    ("stranger", "why"),
    [
        (checkpoint(4, signer=STRANGER), "a checkpoint that no known key has signed"),
        (checkpoint(4), "a checkpoint of size 4 after one of size 4"),
        (checkpoint(2), "a checkpoint of size 2 after one of size 4"),
        (checkpoint(4, other=True), "a checkpoint of size 4 after one of size 4"),
    ],
)
def test_a_checkpoint_that_covers_nothing_more_is_skipped(stranger: Checkpoint, why: str) -> None:
    """It is named; the next one counts as before."""
    made = after(4, checkpoint(4), stranger, 2, checkpoint(6))
    assert made.state == CheckState(
        Tree().add(*LEAVES[:6]),
        LEAVES[5],
        checkpoints=3,
        newest=6,
        covered=6,
        foreign_count=1,
        foreign=(Foreign(2, CHECKPOINT, why, CHECKPOINTS),),
    )


def test_a_bounded_number_of_foreign_messages_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are counted."""
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    made = after(1, *[checkpoint(1, signer=STRANGER)] * 4)
    assert (made.state.foreign_count, [found.seq for found in made.state.foreign], made.state.checkpoints) == (
        4,
        [1, 2],
        4,
    )


def test_without_keys_any_signature_counts() -> None:
    made = CheckpointChecker()
    made.read(LOG[:4])
    made.check(message(1, checkpoint(4, signer=STRANGER)))
    assert (made.state.covered, made.state.foreign_count) == (4, 0)


def test_a_log_that_ends_too_soon() -> None:
    """Before the stream's last sequence, or before the end of a kept checkpoint."""
    for read, size, found in (
        (4, 4, None),
        (4, 3, None),
        (4, 6, Contradiction(5, 6, "missing; the stream ends at 6")),
        (4, 5, Contradiction(5, 5, "missing; the stream ends at 5")),
    ):
        made = after(read)
        made.end(size)
        assert made.state.contradiction == found
    made = after(4, kept=checkpoint(6))
    made.end(4)
    assert made.state.contradiction == Contradiction(5, 6, "missing: a checkpoint covers 6 commits, the log ends at 4")
    made = after(6, kept=checkpoint(6))
    made.end(6)
    assert made.state.contradiction is None


@pytest.mark.parametrize("reads", [(10,), (6, 4), (5, 5), (2, 3, 5), (7, 3), (5, 1, 4), (1,) * 10])
def test_a_kept_checkpoint_is_compared_where_it_ends(reads: tuple[int, ...]) -> None:
    """However the log is split into reads; it covers its size if it agrees."""
    good = after(*reads, kept=checkpoint(6)).state
    assert (good.covered, good.contradiction, good.tree) == (6, None, Tree().add(*LEAVES))
    bad = after(*reads, kept=checkpoint(6, other=True)).state
    assert bad.contradiction == Contradiction(1, 6, DIFFERS.format("somewhere in 1 to 6", 6)) and bad.covered == 0
    assert bad.last_leaf == good.last_leaf == LEAVES[9]


@pytest.mark.parametrize(("size", "compared"), [(5, False), (6, True), (7, False)])
def test_a_kept_checkpoint_is_compared_where_a_resumed_one_starts(size: int, compared: bool) -> None:
    """If it ends exactly there; one that ends earlier was compared before the interruption."""
    seen = CheckState(Tree().add(*LEAVES[:6]), LEAVES[5])
    made = after(kept=checkpoint(size, other=True), seen=seen)
    assert (made.state.contradiction is not None) == compared
    made.read([])
    assert (made.state.contradiction is not None) == compared, "nothing more is nothing to compare"
