"""The newest checkpoint in its stream, under whatever else lies there (ADR 0026)."""

from collections.abc import Awaitable, Callable, Sequence

from events.grammar import Foreign, foreign
from events.stored import Stored
from events.subjects import CHECKPOINTS
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.note import Key, MalformedNote

LOOK_BACK = 1000
"""So many messages are looked through: whoever holds the notary's role can write many."""


def read_known(stored: Stored, keys: Sequence[Key]) -> Checkpoint | Foreign:
    """The checkpoint that a message holds, signed by one of `keys` if there are any, or why it is none."""
    try:
        checkpoint = read_checkpoint(stored.body)
    except MalformedNote as error:
        return foreign(stored, f"no checkpoint: {error}", CHECKPOINTS)
    if keys and not checkpoint.is_signed_by(keys):
        return foreign(stored, "a checkpoint that no known key has signed", CHECKPOINTS)
    return checkpoint


def is_shown_again(stored: Stored, size: int, newest: int) -> Foreign:
    """A checkpoint that vouches for no more than one before it."""
    return foreign(stored, f"a checkpoint of size {size} after one of size {newest}", CHECKPOINTS)


async def newest_checkpoint(
    at: Callable[[int], Awaitable[Stored | None]], last: int, keys: Sequence[Key], found: Callable[[Foreign], None]
) -> Checkpoint | None:
    """The one that covers most; None where there is none. `at` reads the stream, whose newest sequence is `last`.

    `found` receives what is stepped over on the way: what no known key has signed, and an older one shown again.
    """
    newest: tuple[Stored, Checkpoint] | None = None
    for seq in range(last, max(last - LOOK_BACK, 0), -1):
        if (stored := await at(seq)) is None:
            continue
        checkpoint = read_known(stored, keys)
        if isinstance(checkpoint, Foreign):
            found(checkpoint)
        elif newest is None:
            newest = stored, checkpoint
        elif checkpoint.size < newest[1].size:
            break
        else:
            found(is_shown_again(newest[0], newest[1].size, checkpoint.size))
            newest = stored, checkpoint
    return None if newest is None else newest[1]
