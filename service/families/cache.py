"""The families that this replica, or another one, has appended to lately: the states that an append may begin from.

An entry may be old. It is only ever the expectation of an append, which the log checks, and never an answer.
"""

from collections import OrderedDict
from datetime import datetime
from typing import TypeAlias

import msgspec

from events.aggregates.aggregate_names import STREAM
from events.aggregates.commit import digest
from events.aggregates.family import FamilyState
from events.aggregates.family_commit import codec
from events.log.log import Head

DEFAULT_BYTES = 128 << 20
MIN_BYTES = 1 << 20

Key: TypeAlias = tuple[str, str]
"""Tenant and family id."""


class LoadedFamily(msgspec.Struct, frozen=True, gc=False):
    """A family as of its last commit, at sequence `seq` (0 and no state: it does not exist).

    `digest` is that of the commit's body, and `at` its time. `answered_at` is when the broker stored the
    commit, if that is a redemption; else, and for cached families, None. `foreign_seq` is the sequence of a foreign
    message on top of the commit, 0 for none. `size` is the length of the commit's body in bytes. `redeemed_with` are
    the keys of an older generation, if a decision needs them (`service.families.earlier_keys`). `stream` is the log's
    newest book: the next append expects 0 there if `is_carried_over`, since nothing of the family lies in it yet.
    """

    seq: int
    digest: str | None
    state: FamilyState | None
    from_leader: bool
    answered_at: datetime | None = None
    foreign_seq: int = 0
    at: datetime | None = None
    size: int = 0
    stream: str = STREAM
    is_carried_over: bool = False
    redeemed_with: tuple[str, ...] | None = None

    @property
    def expected(self) -> int:
        """The sequence that the next append must expect."""
        return self.foreign_seq or (0 if self.is_carried_over else self.seq)

    def no_earlier(self, now: datetime) -> datetime:
        """`now`, or the last commit's time if that is later: what had expired by then stays expired (CONTRACT §2)."""
        return now if self.at is None else max(now, self.at)


def from_head(head: Head, *, from_leader: bool) -> LoadedFamily:
    """The family as of `head`, which the log has returned."""
    if head.stored is None or head.commit is None:
        return LoadedFamily(0, None, None, from_leader, foreign_seq=head.expected, stream=head.stream)
    commit, seq, body = head.commit, head.stored.seq, head.stored.body
    redeemed = commit.state.redeemed_at == commit.at
    answered_at = head.stored.stored_at if redeemed else None
    foreign_seq = head.expected if head.expected != seq else 0
    carried = head.expected == 0
    place = answered_at, foreign_seq, commit.at, len(body), head.stream, carried
    return LoadedFamily(seq, digest(body), commit.state, from_leader, *place)


class _RemoteCommit(msgspec.Struct, frozen=True, gc=False):
    """A commit that another replica has appended at `seq`, as the bytes of its `body`."""

    seq: int
    size: int
    body: bytes


class FamilyCache:
    """The newest known commit of each family, for the families that were appended to last.

    It holds at most `max_bytes` of commits, as long as they are in the log: `bytes` is what it holds now. Decoded, and
    with its key, a commit takes about three times that of the process's memory. `evicted` counts the families that had
    to go.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, LoadedFamily | _RemoteCommit] = OrderedDict()
        self.bytes = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> LoadedFamily | None:
        """The family as it is known here, or None. Raises `UnreadableCommit`."""
        entry = self._entries.get(key)
        if not isinstance(entry, _RemoteCommit):
            return entry
        self.forget(key)
        commit = codec.decode(entry.body)
        at, size = commit.at, entry.size
        return LoadedFamily(entry.seq, digest(entry.body), commit.state, from_leader=False, at=at, size=size)

    def remember(self, key: Key, family: LoadedFamily) -> None:
        """Put in a family that was just appended to here."""
        self._put(key, family)

    def put_remote(self, key: Key, seq: int, body: bytes) -> None:
        """Put in a commit that another replica has appended. It is decoded when it is needed; most never are."""
        self._put(key, _RemoteCommit(seq, len(body), body))

    def forget(self, key: Key) -> None:
        """Remove an entry that proved to be old."""
        old = self._entries.pop(key, None)
        if old is not None:
            self.bytes -= old.size

    def _put(self, key: Key, entry: LoadedFamily | _RemoteCommit) -> None:
        """Put in an entry as the last to go, unless a later commit of the family is known."""
        old = self._entries.pop(key, None)
        if old is not None:
            self.bytes -= old.size
            if old.seq > entry.seq:
                entry = old
        self._entries[key] = entry
        self.bytes += entry.size
        while self.bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= oldest.size
            self.evicted += 1
