"""Logs with checkpoints in them."""

from collections.abc import Iterable

from events.log import Stored
from events.subjects import CHECKPOINT
from notary.checkpoint import Checkpoint, sign
from notary.merkle import Tree, leaf_hash
from notary.note import Signer
from tests.projections.logs import LogMaker


def tree_of(log: Iterable[Stored]) -> Tree:
    """The tree over these messages."""
    tree = Tree()
    for stored in log:
        tree = tree.add(leaf_hash(stored.body))
    return tree


def vouch(made: LogMaker, signer: Signer, size: int | None = None) -> Checkpoint:
    """Append a checkpoint of the log so far, or of its first `size` messages."""
    checkpoint = sign(signer, tree_of(made.log[:size]))
    made.log.append(Stored(len(made.log) + 1, CHECKPOINT, checkpoint.signed.encode()))
    return checkpoint


def vouched_log(signer: Signer, *, actor: str = "client:web") -> LogMaker:
    """22 messages: six families, each rotated twice, checkpoints of size 6, 13 and 19 at 7, 14 and 21."""
    made = LogMaker()
    for number in range(6):
        made.open(f"f{number}")
    vouch(made, signer)
    for number in range(6):
        made.rotate(f"f{number}")
    vouch(made, signer)
    for number in range(5):
        made.rotate(f"f{number}")
    made.rotate("f0")
    vouch(made, signer, 19)
    made.rotate("f5")
    return made
