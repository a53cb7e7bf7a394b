"""What a verification remembers of the aggregates: the recent ones in memory, the others in a private SQLite file.

So a log of any length is verified in the same memory. SQLite deletes its file by itself, whatever happens; `save`
writes a copy that another verification goes on from.
"""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from events.files import make_empty

RECENT = 120_000
"""So many aggregates are held in memory, at about 800 bytes each."""
PAGES_KIB = 16_384


class Unusable(Exception):
    """What is remembered cannot be kept or had back; the message says why."""


class AggregateStore(dict[str, bytes]):
    """By the aggregate's name; of one that is not known, nothing: no bytes."""

    def __init__(self, saved: Path | None = None) -> None:
        """Begin with nothing, or with what was saved. Raises `Unusable`."""
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
        """Let go of what does not lie in memory; nothing can be had from it any more."""
        self._others.close()

    def make_room(self) -> None:
        """Now and then. Raises `Unusable`."""
        if len(self) > RECENT:
            self._put_away()

    def save(self, path: Path, progress: bytes) -> None:
        """A copy of everything, and how far it goes. Written whole or not at all. Raises `Unusable`."""
        self._put_away()
        self._others.execute("DELETE FROM progress")
        self._others.execute("INSERT INTO progress VALUES (?)", (progress,))
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            make_empty(draft)  # it holds what the log holds
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
            # in the order of the names, so that every page is touched once
            self._others.executemany("INSERT OR REPLACE INTO aggregate VALUES (?, ?)", sorted(self.items()))
            self._others.execute("COMMIT")
        except sqlite3.Error as error:
            raise Unusable(f"no room for what is remembered: {error}; SQLITE_TMPDIR may name another disk") from error
        self.clear()


def saved_progress(path: Path) -> bytes:
    """What `save` was told. Raises `Unusable`."""
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
