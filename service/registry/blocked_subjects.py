"""Which OAuth subjects are blocked, as far as this replica knows (`events.aggregates.subject`).

The knowledge may be old: it serves as the guard of an append, which the log checks, and never as an answer.
"""

from typing import NamedTuple

from events.aggregates import aggregate_names
from events.aggregates.aggregate_names import STREAM
from events.aggregates.subject import codec
from events.log.books import stream_of
from events.log.log import Head, Log
from events.log.stored_message import StoredMessage


class BlockState(NamedTuple):
    """Whether a person is blocked as of its aggregate's sequence `seq`, foreign messages included; 0: no commit yet.

    That is in `stream`, the log's newest book: the last commit about the person may lie in an older one.
    """

    seq: int
    blocked: bool
    stream: str = STREAM


NOTHING = BlockState(0, False)


class BlockedSubjects:
    """The known block states, by tenant and digest of the `sub`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[tuple[str, str], BlockState] = {}

    def apply(self, tenant: str, digest: str, head: Head) -> None:
        """Remember a person's block state; one that is not newer than the known one changes nothing."""
        seq = head.expected or (head.stored.seq if head.stored is not None else 0)
        if seq > self._known.get((tenant, digest), NOTHING).seq:
            blocked = head.commit is not None and head.commit.state.blocked
            self._known[tenant, digest] = BlockState(seq, blocked)

    def known(self, tenant: str, sub: str) -> BlockState:
        """The person's block state from memory: as of the newest book of which this replica has heard in the log.

        All that lies in the books before is known here by then.
        """
        seq, blocked, _ = self._known.get((tenant, aggregate_names.subject_digest(sub)), NOTHING)
        book = self._log.announced
        return BlockState(seq if seq >= book.first else 0, blocked, stream_of(book.number))

    async def newest(self, tenant: str, sub: str, blocked_at: int | None = None) -> BlockState:
        """The person's block state from the log's leader. Raises `Unavailable`.

        A person who was blocked as of sequence `blocked_at` counts as blocked, also after an unblocking.
        """
        head = await self._log.head(aggregate_names.subject(tenant, sub))
        self.apply(tenant, aggregate_names.subject_digest(sub), head)
        found = BlockState(head.expected, head.commit is not None and head.commit.state.blocked, head.stream)
        if blocked_at is None or found.blocked:
            return found
        return found._replace(blocked=await self._was_blocked(head.stored, blocked_at))

    async def _was_blocked(self, stored: StoredMessage | None, seq: int) -> bool:
        """Whether the person was blocked as of `seq`; `stored` is the person's newest commit."""
        while stored is not None:
            commit = codec.decode(stored.body)
            if stored.seq < seq:
                return commit.state.blocked
            stored = await self._log.at(commit.prev_seq) if commit.prev_seq else None
        return False
