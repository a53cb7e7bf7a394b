"""The families that this replica, or another one, has appended to lately: the states that an append may begin from.

An entry may be old. It is only ever the expectation of an append, which the log checks, and never an answer.
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
    """A family as of its last commit, at sequence `seq` (0 and no state: it does not exist).

    `digest` is that of the commit's body, and `at` its time. `answered_at` is when its redemption could be answered:
    when the broker had stored it. It is None where the commit is no redemption, and in the cache; then the answer came
    no earlier than the decision. `foreign_seq` is the sequence of a foreign message on top of the commit, 0 for none.
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
        """The sequence that the next append must expect."""
        return self.foreign_seq or self.seq

    def no_earlier(self, now: datetime) -> datetime:
        """`now`, or the last commit's time if that is later: what had expired by then stays expired (CONTRACT §2)."""
        return now if self.at is None else max(now, self.at)


def from_head(head: Head, *, from_leader: bool) -> LoadedFamily:
    """The family as of `head`, which the log has returned."""
    if head.stored is None or head.commit is None:
        return LoadedFamily(0, None, None, from_leader, foreign_seq=head.expected)
    commit, seq = head.commit, head.stored.seq
    redeemed = commit.state.redeemed_at == commit.at
    answered_at = head.stored.stored_at if redeemed else None
    foreign_seq = head.expected if head.expected != seq else 0
    return LoadedFamily(seq, digest(head.stored.body), commit.state, from_leader, answered_at, foreign_seq, commit.at)


class FamilyCache:
    """The newest known commit of each family, for the `FAMILIES` that were appended to last."""

    def __init__(self) -> None:
        self._known: BoundedMap[Key, LoadedFamily] = BoundedMap(MAX_FAMILIES)
        self._remote: BoundedMap[Key, tuple[int, bytes]] = BoundedMap(MAX_FAMILIES)

    def get(self, key: Key) -> LoadedFamily | None:
        """The family as it is known here, or None. Raises `UnreadableCommit`."""
        known, remote = self._known.get(key), self._remote.pop(key, None)
        if remote is None or (known is not None and known.seq >= remote[0]):
            return known
        seq, body = remote
        commit = codec.decode(body)
        return LoadedFamily(seq, digest(body), commit.state, from_leader=False, at=commit.at)

    def remember(self, key: Key, what: LoadedFamily) -> None:
        """Put in a family that was just appended to here."""
        self._known[key] = what

    def put_remote(self, key: Key, seq: int, body: bytes) -> None:
        """Put in a commit that another replica has appended. It is decoded when it is needed; most never are."""
        self._remote[key] = seq, body

    def forget(self, key: Key) -> None:
        """Remove an entry that proved to be old."""
        self._known.pop(key, None)
