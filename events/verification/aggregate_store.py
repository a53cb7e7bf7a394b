"""Stores each aggregate's last commit during a verification: recent ones in memory, others in a private SQLite file.

So a log of any length is verified in the same memory. SQLite deletes its temporary file by itself in any case. `save`
writes a copy from which another verification can go on.
"""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from events.files import make_empty

MAX_RECENT = 120_000
"""How many aggregates are kept in memory, at about 800 bytes each."""
PAGES_KIB = 16_384


class Unusable(Exception):
    """The store, or a saved copy of it, cannot be written or read; the text says why."""


class AggregateStore(dict[str, bytes]):
    """Maps an aggregate's name to its last commit; an unknown name gives `b""`."""

    def __init__(self, saved: Path | None = None) -> None:
        """Begin empty, or with a `saved` copy. Raises `Unusable`."""
        super().__init__()
        self._others = sqlite3.connect("", isolation_level=None)
        self._has_others = saved is not None
        if saved is None:
            self._others.execute("CREATE TABLE aggregate (name TEXT PRIMARY KEY, last BLOB) WITHOUT ROWID")
            self._others.execute("CREATE TABLE progress (made BLOB)")
        else:
            try:
                with _opened(saved) as file:
                    file.backup(self._others)
            except Unusable:
                self.close()
                raise
        for setting in (f"cache_size=-{PAGES_KIB}", "journal_mode=OFF", "synchronous=OFF"):
            self._others.execute(f"PRAGMA {setting}")

    def __missing__(self, name: str) -> bytes:
        if not self._has_others:
            return b""
        row = self._others.execute("SELECT last FROM aggregate WHERE name = ?", (name,)).fetchone()
        return row[0] if row else b""

    def close(self) -> None:
        """Close the SQLite file. The store cannot be used after that."""
        self._others.close()

    def make_room(self) -> None:
        """Move entries to the file if there are too many in memory; to be called now and then. Raises `Unusable`."""
        if len(self) > MAX_RECENT:
            self._put_away()

    def save(self, path: Path, progress: bytes) -> None:
        """Write a copy, with the caller's `progress`, whole or not at all. Raises `Unusable`."""
        self._put_away()
        self._others.execute("DELETE FROM progress")
        self._others.execute("INSERT INTO progress VALUES (?)", (progress,))
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            make_empty(draft)  # private, as it contains the log's content
            with closing(sqlite3.connect(draft)) as file:
                self._others.backup(file)
            draft.replace(path)
        except (OSError, sqlite3.Error) as error:
            raise Unusable(f"{path} cannot be written: {error}") from error
        finally:
            draft.unlink(missing_ok=True)

    def _put_away(self) -> None:
        self._has_others = True
        try:
            self._others.execute("BEGIN")
            # sorted by name, so that every page is written once
            self._others.executemany("INSERT OR REPLACE INTO aggregate VALUES (?, ?)", sorted(self.items()))
            self._others.execute("COMMIT")
        except sqlite3.Error as error:
            raise Unusable(f"no room for what is remembered: {error}; SQLITE_TMPDIR may name another disk") from error
        self.clear()


def saved_progress(path: Path) -> bytes:
    """Read the `progress` in a copy that `save` wrote. Raises `Unusable`."""
    with _opened(path) as file:
        row = file.execute("SELECT made FROM progress").fetchone()
    if row is None or type(row[0]) is not bytes:
        raise Unusable(f"{path} holds no interrupted verification")
    return row[0]


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as file:
            yield file
    except sqlite3.Error as error:
        raise Unusable(f"{path} holds no interrupted verification: {error}") from error
