"""Where families began: by its name, the sequence of a family's opening commit, which is the number of its row.

Beside it, what a commit alone does not tell of its family: which one renewed it last, and how long access tokens last.

A commit tells its family's name; what it changes is found several times faster by number. A family that is used again
is used soon, so the recent ones are remembered.
"""

import sqlite3
from typing import NamedTuple

from events.aggregates.family import DEVICE_GRANT, DeviceAuthorizationStarted, GrantAuthorized
from projections.decoded_commit import FamilyCommit

FIND = "SELECT seq, coalesce(renewed, seq), access_until FROM families WHERE family_id = ? AND tenant = ?"
REMEMBERED = 50_000


class Known(NamedTuple):
    """Of a family: as in `FamilyCommit`. `opened` is None for one that nothing opened."""

    opened: int | None
    renewed: int | None
    access_until: int


class FamilyLookup:
    """Of the families in the read model, and of those in the batch that is being written to it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._recent: dict[tuple[str, int], Known] = {}

    def by(self, commit: FamilyCommit, tenant: int) -> Known:
        """What the commit's family is with this commit, which may be the one that opened it.

        It counts from now on, written or not: after a batch that was not, this is to be made anew.
        """
        key = commit.family_id, tenant
        opened, renewed, until = self._recent.get(key) or self._before(commit, key)
        renewed = renewed if commit.refresh_end is None else commit.seq
        known = Known(opened, renewed, max(until, commit.access_end or 0))
        if opened is not None:
            self._recent[key] = known
        return known

    def _before(self, commit: FamilyCommit, key: tuple[str, int]) -> Known:
        first = commit.events[0]
        if isinstance(first, DeviceAuthorizationStarted | GrantAuthorized) and not _is_approval(first):
            return Known(commit.seq, commit.seq, 0)  # looking for it would find nothing
        row = self._connection.execute(FIND, key).fetchone()
        if row is not None:
            return Known(*row)
        opened = commit.seq if isinstance(first, GrantAuthorized) else None
        return Known(opened, opened, 0)

    def make_room(self) -> None:
        """Between two batches: what is in the file can be looked up."""
        if len(self._recent) > REMEMBERED:
            self._recent.clear()


def _is_approval(event: DeviceAuthorizationStarted | GrantAuthorized) -> bool:
    """Of a device whose authorization opened the family."""
    return isinstance(event, GrantAuthorized) and event.grant == DEVICE_GRANT
