"""People's cut-offs, as far as this replica knows them (`events.aggregates.subject`).

What is known here may be old: it serves as the guard of an append, which the log checks, and never as an answer.
"""

from typing import NamedTuple

from events.aggregates import subjects
from events.aggregates.subject import codec
from events.log.log import Head, Log
from events.log.stored_commit import Stored


class BlockState(NamedTuple):
    """A person as of the aggregate's sequence `seq` (0: nothing was ever cut off), foreign messages among it."""

    seq: int
    blocked: bool


NOTHING = BlockState(0, False)


class BlockedSubjects:
    """By tenant and digest of the `sub`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[tuple[str, str], BlockState] = {}

    def apply(self, tenant: str, digest: str, head: Head) -> None:
        """Take in where the person stands; older than what is known is passed over."""
        if head.expected > self._known.get((tenant, digest), NOTHING).seq:
            blocked = head.commit is not None and head.commit.state.blocked
            self._known[tenant, digest] = BlockState(head.expected, blocked)

    def known(self, tenant: str, sub: str) -> BlockState:
        """From memory."""
        return self._known.get((tenant, subjects.subject_digest(sub)), NOTHING)

    async def newest(self, tenant: str, sub: str, blocked_at: int | None = None) -> BlockState:
        """From the log's leader. Whoever was blocked at the sequence `blocked_at` counts as blocked.

        Raises `Unavailable`.
        """
        head = await self._log.head(subjects.subject(tenant, sub))
        self.apply(tenant, subjects.subject_digest(sub), head)
        known = self.known(tenant, sub)
        if blocked_at is None or known.blocked:
            return known
        return known._replace(blocked=await self._was_blocked(head.stored, blocked_at))

    async def _was_blocked(self, stored: Stored | None, seq: int) -> bool:
        """Whether the person whose newest commit that is was blocked as of `seq`."""
        while stored is not None:
            commit = codec.decode(stored.body)
            if stored.seq < seq:
                return commit.state.blocked
            stored = await self._log.at(commit.prev_seq) if commit.prev_seq else None
        return False
