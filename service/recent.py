"""Families this replica has decided on lately, and those it was told of by others: where an append may begin from.

What is remembered may be old. It serves as the expectation of an append, which the log checks, and never as an answer.
"""

from collections import OrderedDict
from datetime import datetime
from typing import NamedTuple, TypeAlias, TypeVar

from events.commit import digest
from events.family import FamilyState, codec

Entry = TypeVar("Entry")

FAMILIES = 20_000

Key: TypeAlias = tuple[str, str]
"""Tenant and family id."""


class Loaded(NamedTuple):
    """A family as of sequence `seq` (0 and no state: it does not exist); `digest` is of its last commit's body.

    `answered_at` is when the answer to its latest redemption could be given, by this machine's clock: when the broker
    had stored it. None where another commit followed, or where it is remembered here: then it is no earlier than the
    decision.
    """

    seq: int
    digest: str | None
    state: FamilyState | None
    from_leader: bool
    answered_at: datetime | None = None


def from_commit(seq: int, body: bytes, *, from_leader: bool, stored_at: datetime | None = None) -> Loaded:
    """From its last commit, stored at that time. Raises `UnreadableCommit`."""
    commit = codec.decode(body)
    redeemed = commit.state.redeemed_at == commit.at
    return Loaded(seq, digest(body), commit.state, from_leader, stored_at if redeemed else None)


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
        return from_commit(*told, from_leader=False)

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
