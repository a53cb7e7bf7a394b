"""Looks families up by their names: the row's number, which is the sequence of the commit that opened the family.

A commit contains its family's name, but a row is updated several times faster by number. It also needs two facts of
earlier commits: which one issued the newest refresh token, and when the last access token expires. A family in use is
soon used again, so the recent ones stay in memory.
"""

import sqlite3
from typing import NamedTuple

from events.aggregates.family import DEVICE_GRANT
from events.aggregates.family_events import DeviceAuthorizationStarted, GrantAuthorized
from projections.decoded_commit import FamilyCommit

FIND = "SELECT seq, coalesce(last_renewal_seq, seq), access_until FROM families WHERE family_id = ? AND tenant = ?"
MAX_REMEMBERED = 50_000


class LookedUpFamily(NamedTuple):
    """As in `FamilyCommit`; `opened` is None for a family that no commit opened."""

    opened: int | None
    last_renewal_seq: int | None
    access_until: int


class FamilyLookup:
    """Finds the families of the read model, and those of the batch that is being written to it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._recent: dict[tuple[str, int], LookedUpFamily] = {}

    def find(self, commit: FamilyCommit, tenant: int) -> LookedUpFamily:
        """The commit's family after this commit, which may be the one that opened it.

        The result is remembered as if the commit were written: after a batch that failed, make a new `FamilyLookup`.
        """
        key = commit.family_id, tenant
        opened, renewed, until = self._recent.get(key) or self._before(commit, key)
        renewed = renewed if commit.refresh_end is None else commit.seq
        found = LookedUpFamily(opened, renewed, max(until, commit.access_end or 0))
        if opened is not None:
            self._recent[key] = found
        return found

    def _before(self, commit: FamilyCommit, key: tuple[str, int]) -> LookedUpFamily:
        first = commit.events[0]
        if isinstance(first, DeviceAuthorizationStarted | GrantAuthorized) and not _is_approval(first):
            return LookedUpFamily(commit.seq, commit.seq, 0)  # a query would find no row
        row = self._connection.execute(FIND, key).fetchone()
        if row is not None:
            return LookedUpFamily(*row)
        opened = commit.seq if isinstance(first, GrantAuthorized) else None
        return LookedUpFamily(opened, opened, 0)

    def make_room(self) -> None:
        """Forget the families of written batches where there are many: the file has them. Call between two batches."""
        if len(self._recent) > MAX_REMEMBERED:
            self._recent.clear()


def _is_approval(event: DeviceAuthorizationStarted | GrantAuthorized) -> bool:
    """Whether it approves a device, whose authorization opened the family."""
    return isinstance(event, GrantAuthorized) and event.grant == DEVICE_GRANT
