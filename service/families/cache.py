"""Families this replica has decided on lately, and those it was told of by others: where an append may begin from.

What is remembered may be old. It serves as the expectation of an append, which the log checks, and never as an answer.
"""

from datetime import datetime
from typing import NamedTuple, TypeAlias

from events.aggregates.commit import digest
from events.aggregates.family import FamilyState, codec
from events.bounded_map import BoundedMap
from events.log.log import Head

MAX_FAMILIES = 20_000

Key: TypeAlias = tuple[str, str]
"""Tenant and family id."""


class LoadedFamily(NamedTuple):
    """A family as of sequence `seq` (0 and no state: it does not exist); `digest` is of its last commit's body.

    `at` is that commit's time. `answered_at` is when the answer to its latest redemption could be given: when the
    broker had stored it. None where another commit followed, or where it is remembered here: then it is no earlier than
    the decision.
    `foreign_seq` is that of a foreign message that lies on top of it, 0 for none.
    """

    seq: int
    digest: str | None
    state: FamilyState | None
    from_leader: bool
    answered_at: datetime | None = None
    foreign_seq: int = 0
    at: datetime | None = None

    @property
    def expected(self) -> int:
        """What the next append must expect."""
        return self.foreign_seq or self.seq

    def no_earlier(self, now: datetime) -> datetime:
        """`now`, or the last commit's time if that is later: what was over by then stays so, whatever a clock shows."""
        return now if self.at is None else max(now, self.at)


def from_head(head: Head, *, from_leader: bool) -> LoadedFamily:
    """From where the log says that it stands."""
    if head.stored is None or head.commit is None:
        return LoadedFamily(0, None, None, from_leader, foreign_seq=head.expected)
    commit, seq = head.commit, head.stored.seq
    redeemed = commit.state.redeemed_at == commit.at
    answered_at = head.stored.stored_at if redeemed else None
    foreign_seq = head.expected if head.expected != seq else 0
    return LoadedFamily(seq, digest(head.stored.body), commit.state, from_leader, answered_at, foreign_seq, commit.at)


class FamilyCache:
    """The newest of each family that is known here, for so many families."""

    def __init__(self) -> None:
        self._known: BoundedMap[Key, LoadedFamily] = BoundedMap(MAX_FAMILIES)
        self._remote: BoundedMap[Key, tuple[int, bytes]] = BoundedMap(MAX_FAMILIES)

    def get(self, key: Key) -> LoadedFamily | None:
        """What is known, or None. Raises `UnreadableCommit`."""
        known, remote = self._known.get(key), self._remote.pop(key, None)
        if remote is None or (known is not None and known.seq >= remote[0]):
            return known
        seq, body = remote
        commit = codec.decode(body)
        return LoadedFamily(seq, digest(body), commit.state, from_leader=False, at=commit.at)

    def remember(self, key: Key, what: LoadedFamily) -> None:
        """It has just been appended here."""
        self._known[key] = what

    def put_remote(self, key: Key, seq: int, body: bytes) -> None:
        """It has just been appended elsewhere. Decoded when it is needed, which most never are."""
        self._remote[key] = seq, body

    def forget(self, key: Key) -> None:
        """It proved to be old."""
        self._known.pop(key, None)
