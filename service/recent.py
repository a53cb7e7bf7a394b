"""Families this replica has decided on lately, and those it was told of by others: where an append may begin from.

What is remembered may be old. It serves as the expectation of an append, which the log checks, and never as an answer.
"""

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias, TypeVar

from events.commit import digest
from events.family import FamilyState, codec
from events.log import Head

Entry = TypeVar("Entry")

FAMILIES = 20_000

Key: TypeAlias = tuple[str, str]
"""Tenant and family id."""


class Loaded(NamedTuple):
    """A family as of sequence `seq` (0 and no state: it does not exist); `digest` is of its last commit's body.

    `answered_at` is when the answer to its latest redemption could be given, by this machine's clock: when the broker
    had stored it. None where another commit followed, or where it is remembered here: then it is no earlier than the
    decision.
    `foreign_seq` is that of a foreign message that lies on top of it, 0 for none.
    """

    seq: int
    digest: str | None
    state: FamilyState | None
    from_leader: bool
    answered_at: datetime | None = None
    foreign_seq: int = 0

    @property
    def expected(self) -> int:
        """What the next append must expect."""
        return self.foreign_seq or self.seq


def from_head(head: Head, *, from_leader: bool, ahead: timedelta) -> Loaded:
    """From where the log says that it stands; this machine's clock is `ahead` of the broker's."""
    if head.stored is None or head.commit is None:
        return Loaded(0, None, None, from_leader, foreign_seq=head.expected)
    seq, stored_at = head.stored.seq, head.stored.stored_at
    redeemed = stored_at is not None and head.commit.state.redeemed_at == head.commit.at
    answered_at = stored_at + ahead if redeemed and stored_at is not None else None
    foreign_seq = head.expected if head.expected != seq else 0
    return Loaded(seq, digest(head.stored.body), head.commit.state, from_leader, answered_at, foreign_seq)


class Recent:
    """The newest of each family that is known here, for so many families."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Loaded] = OrderedDict()
        self._told: OrderedDict[Key, tuple[int, bytes]] = OrderedDict()

    def get(self, key: Key) -> Loaded | None:
        """What is known, or None. Raises `UnreadableCommit`."""
        known, told = self._known.get(key), self._told.pop(key, None)
        if told is None or (known is not None and known.seq >= told[0]):
            return known
        seq, body = told
        return Loaded(seq, digest(body), codec.decode(body).state, from_leader=False)

    def remember(self, key: Key, what: Loaded) -> None:
        """It has just been appended here."""
        _put(self._known, key, what)

    def hear(self, key: Key, seq: int, body: bytes) -> None:
        """It has just been appended elsewhere. Decoded when it is needed, which most never are."""
        _put(self._told, key, (seq, body))

    def forget(self, key: Key) -> None:
        """It proved to be old."""
        self._known.pop(key, None)


def _put(entries: OrderedDict[Key, Entry], key: Key, entry: Entry) -> None:
    entries[key] = entry
    entries.move_to_end(key)
    if len(entries) > FAMILIES:
        entries.popitem(last=False)
