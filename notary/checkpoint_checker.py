"""Builds the tree of the log in order, and compares the checkpoints with it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from events.log.grammar import Foreign
from events.log.stored_message import StoredMessage
from events.verification.verifier import MAX_KEPT
from notary.checkpoint import Checkpoint
from notary.merkle_tree import Tree, leaf_hash
from notary.newest_checkpoint import read_known, shown_again
from notary.signed_note import Key


class Contradiction(NamedTuple):
    """The log contradicts a checkpoint: something in the sequences `first` to `last` is bad.

    `checkpoint` is 0, or the sequence of a bad message in the checkpoints' own stream: `first` and `last` are then the
    end of the log as far as it had been read.
    """

    first: int
    last: int
    why: str
    checkpoint: int = 0


class CheckState(msgspec.Struct, array_like=True):
    """The findings up to the end of `tree`, whose last leaf has the hash `last_leaf`.

    `checkpoints` counts the messages in their stream, and `foreign_count` those that are not checkpoints; `foreign` are
    the first of these. The largest checkpoint has size `newest`, and the largest that agrees with the log `covered`.
    """

    tree: Tree = Tree()
    last_leaf: bytes = b""
    checkpoints: int = 0
    newest: int = 0
    covered: int = 0
    contradiction: Contradiction | None = None
    foreign_count: int = 0
    foreign: tuple[Foreign, ...] = ()


class CheckpointChecker:
    """Receives the log from the end of `seen` on, and each checkpoint once the log has been read up to its size.

    With `keys`, a checkpoint must be signed by one of them, and others are skipped. `kept` is a checkpoint from
    elsewhere that must agree as well.
    """

    def __init__(
        self,
        keys: Iterable[Key] = (),
        kept: Checkpoint | None = None,
        seen: CheckState = CheckState(),  # noqa: B008  # copied
    ) -> None:
        self.state = msgspec.structs.replace(seen)
        """The findings so far."""
        self._keys = tuple(keys)
        self._kept = kept
        if kept is not None and kept.size == self.state.tree.size:
            self._compare(kept)

    def read(self, messages: Sequence[StoredMessage]) -> None:
        """Read the next messages of the log."""
        if self._kept is not None and 0 < (rest := self._kept.size - self.state.tree.size) < len(messages):
            self.read(messages[:rest])
            messages = messages[rest:]
        for place, stored in enumerate(messages, self.state.tree.size + 1):
            if stored.seq != place:
                self._contradict(Contradiction(place, place, f"missing; the stream goes on at {stored.seq}"))
                break
        leaves = [leaf_hash(stored.body) for stored in messages]
        self.state.tree = self.state.tree.add(*leaves)
        self.state.last_leaf = leaves[-1] if leaves else self.state.last_leaf
        if self._kept is not None and self._kept.size == self.state.tree.size and leaves:
            self._compare(self._kept)

    def check(self, stored: StoredMessage) -> None:
        """Check the next message of the checkpoints' stream."""
        self.state.checkpoints += 1
        if stored.seq != self.state.checkpoints:
            self._refuse(self.state.checkpoints, f"missing; the checkpoints go on at {stored.seq}")
        checkpoint = read_known(stored, self._keys)
        if isinstance(checkpoint, Foreign):
            self._add_foreign(checkpoint)
            return
        if checkpoint.size <= self.state.newest:
            self._add_foreign(shown_again(stored, checkpoint.size, self.state.newest))
            return
        if checkpoint.size > self.state.tree.size:
            self._miss(checkpoint)
        else:
            self._compare(checkpoint)
        self.state.newest = checkpoint.size

    def _add_foreign(self, found: Foreign) -> None:
        self.state.foreign_count += 1
        if len(self.state.foreign) < MAX_KEPT:
            self.state.foreign += (found,)

    def end(self, size: int) -> None:
        """End the check. The log should have `size` messages."""
        if self.state.tree.size < size:
            first = self.state.tree.size + 1
            self._contradict(Contradiction(first, size, f"missing; the stream ends at {size}"))
        if self._kept is not None and self._kept.size > self.state.tree.size:
            self._miss(self._kept)

    def _miss(self, checkpoint: Checkpoint) -> None:
        first, last = self.state.tree.size + 1, checkpoint.size
        why = f"missing: a checkpoint covers {last} commits, the log ends at {self.state.tree.size}"
        self._contradict(Contradiction(first, last, why))

    def _compare(self, checkpoint: Checkpoint) -> None:
        if checkpoint.root == self.state.tree.root():
            self.state.covered = max(self.state.covered, checkpoint.size)
            return
        first, last = self.state.covered + 1, checkpoint.size
        where = f"somewhere in {first} to {last}" if first < last else "here"
        why = f"history differs {where}: the checkpoint of size {last} was signed over another one"
        self._contradict(Contradiction(first, last, why))

    def _refuse(self, seq: int, why: str) -> None:
        self._contradict(Contradiction(self.state.tree.size, self.state.tree.size, why, seq))

    def _contradict(self, contradiction: Contradiction) -> None:
        if self.state.contradiction is None:
            self.state.contradiction = contradiction
