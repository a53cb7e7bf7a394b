"""Reading the log in order as the notary sees it: the tree so far, and whether its checkpoints say the same."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from events.log import Stored
from events.subjects import CHECKPOINT
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.merkle import Tree, leaf_hash
from notary.note import Key, MalformedNote

REMEMBERED = 1 << 16
"""How many commits may come between what a checkpoint covers and where it lies. Signing and appending take seconds."""


class Contradiction(NamedTuple):
    """What is in the log is not what a checkpoint says: something in the sequences `first` to `last` is bad."""

    first: int
    last: int
    why: str


class Witness:
    """Feed it the log from where `tree` ends. With `keys`, a checkpoint must be signed by one of them.

    `kept` is a checkpoint from elsewhere that the log must agree with as well.
    """

    def __init__(self, keys: Iterable[Key] = (), kept: Checkpoint | None = None, tree: Tree = Tree()) -> None:  # noqa: B008  # a value
        self.tree = tree
        self.last_leaf = b""
        self.last_commit = 0
        """The newest sequence that holds no checkpoint; 0 if there was none."""
        self.checkpoints = 0
        self.covered = 0
        """The size of the largest checkpoint that agrees with the log."""
        self.contradiction: Contradiction | None = None
        self._keys = tuple(keys)
        self._kept = kept
        self._newest = 0
        self._recent: deque[Tree] = deque([tree], REMEMBERED)

    def read(self, stored: Stored) -> None:
        """The next message of the stream."""
        if stored.seq != self.tree.size + 1:
            missing = self.tree.size + 1
            self._contradict(Contradiction(missing, missing, f"missing; the stream goes on at {stored.seq}"))
        if stored.subject == CHECKPOINT:
            self.checkpoints += 1
            self._check(stored)
        else:
            self.last_commit = stored.seq
        self.last_leaf = leaf_hash(stored.body)
        self.tree = self.tree.add(self.last_leaf)
        self._recent.append(self.tree)
        if self._kept is not None and self._kept.size == self.tree.size:
            self._compare(self._kept, self.tree, "the checkpoint that was kept")

    def end(self) -> None:
        """There is nothing more."""
        if self._kept is not None and self._kept.size > self.tree.size:
            first, last = self.tree.size + 1, self._kept.size
            why = f"missing: the checkpoint that was kept covers {last} commits, the log ends at {self.tree.size}"
            self._contradict(Contradiction(first, last, why))

    def _check(self, stored: Stored) -> None:
        try:
            checkpoint = read_checkpoint(stored.body)
        except MalformedNote as error:
            self._contradict(Contradiction(stored.seq, stored.seq, f"no checkpoint: {error}"))
            return
        if self._keys and not checkpoint.is_signed_by(self._keys):
            why = f"a checkpoint of {checkpoint.origin} that no known key has signed"
            self._contradict(Contradiction(stored.seq, stored.seq, why))
        elif checkpoint.size <= self._newest:
            why = f"a checkpoint of size {checkpoint.size} after one of size {self._newest}"
            self._contradict(Contradiction(stored.seq, stored.seq, why))
        elif checkpoint.size >= stored.seq:
            first = self.covered + 1
            why = f"something is missing in {first} to {stored.seq}: the checkpoint there covers {checkpoint.size}"
            self._contradict(Contradiction(first, stored.seq, why))
        elif (tree := self._tree_of(checkpoint.size)) is not None:
            self._compare(checkpoint, tree, f"the checkpoint at {stored.seq}")
        elif self.tree.size - checkpoint.size >= REMEMBERED:
            why = f"a checkpoint of size {checkpoint.size} that came too late to be checked"
            self._contradict(Contradiction(stored.seq, stored.seq, why))
        self._newest = max(self._newest, checkpoint.size)

    def _tree_of(self, size: int) -> Tree | None:
        place = size - self._recent[0].size
        return self._recent[place] if 0 <= place < len(self._recent) else None

    def _compare(self, checkpoint: Checkpoint, tree: Tree, which: str) -> None:
        if checkpoint.root == tree.root():
            self.covered = max(self.covered, checkpoint.size)
            return
        first, last = self.covered + 1, checkpoint.size
        where = f"somewhere in {first} to {last}" if first < last else "here"
        self._contradict(Contradiction(first, last, f"history differs {where}: {which} was signed over another one"))

    def _contradict(self, contradiction: Contradiction) -> None:
        if self.contradiction is None:
            self.contradiction = contradiction
