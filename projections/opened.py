"""Where families began: by its name, the sequence of a family's opening commit, which is the number of its row.

A commit tells its family's name; what it changes is found several times faster by number. A family that is used again
is used soon, so the recent ones are remembered.
"""

import sqlite3

from events.family import DEVICE_GRANT, DeviceAuthorizationStarted, GrantAuthorized
from projections.commit import FamilyCommit

FIND = "SELECT seq FROM families WHERE family_id = ? AND tenant = ?"
REMEMBERED = 50_000


class Opened:
    """Of the families in the read model, and of those in the batch that is being written to it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._recent: dict[tuple[str, int], int] = {}

    def by(self, commit: FamilyCommit, tenant: int) -> int | None:
        """The sequence that opened the commit's family, perhaps its own; None for a family that nothing opened."""
        key = commit.family_id, tenant
        opened = self._recent.get(key)
        if opened is None:
            opened = self._opened(commit, key)
            if opened is not None:
                self._recent[key] = opened
        return opened

    def _opened(self, commit: FamilyCommit, key: tuple[str, int]) -> int | None:
        first = commit.events[0]
        if isinstance(first, DeviceAuthorizationStarted | GrantAuthorized) and not _is_approval(first):
            return commit.seq  # looking for it would find nothing
        row = self._connection.execute(FIND, key).fetchone()
        return row[0] if row else commit.seq if isinstance(first, GrantAuthorized) else None

    def make_room(self) -> None:
        """Between two batches: what is in the file can be looked up."""
        if len(self._recent) > REMEMBERED:
            self._recent.clear()


def _is_approval(event: DeviceAuthorizationStarted | GrantAuthorized) -> bool:
    """Of a device whose authorization opened the family."""
    return isinstance(event, GrantAuthorized) and event.grant == DEVICE_GRANT
