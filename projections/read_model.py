"""The read model: one SQLite file, fed with the log in order.

The table `applied` moves on in the transaction that writes the rows, so every commit counts exactly once, however
often the process dies. A changed table gets a new number in `TABLES`; a file of another version is built anew. Indexes,
which only queries need, are made when a new file is closed: sorting once is faster than inserting in order.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlite_utils import Database, Migrations

from events.aggregates.commit import digest
from events.log import grammar
from events.log.grammar import Foreign
from events.log.stored_message import StoredMessage
from projections.decoded_commit import FamilyCommit, TenantCommit, Unprojectable, read_commit
from projections.family_lookup import FamilyLookup
from projections.tables import (
    activity,
    applied,
    cut_offs,
    exchanges,
    families,
    foreign_messages,
    history,
    incidents,
    interned_names,
    readable_views,
    revocations,
    search_index,
    tenants,
)
from projections.write_batch import Rows

TABLES: dict[str, Callable[[Database], None]] = {
    "names-1": interned_names.create,
    "applied-1": applied.create,
    "families-6": families.create,
    "history-5": history.create,
    "revocations-1": revocations.create,
    "exchanges-3": exchanges.create,
    "incidents-3": incidents.create,
    "activity-1": activity.create,
    "cut-offs-2": cut_offs.create,
    "words-2": search_index.create,
    "foreign-1": foreign_messages.create,
    "tenants-1": tenants.create,
    "views-7": readable_views.create,
}
OF_EVERY_COMMIT = (families, history, exchanges, activity)
"""The projections of every commit of a family, in the order in which their rows are written."""
OF_NOTABLE_COMMITS = (revocations, incidents, search_index)
"""The projections that few commits concern (`is_notable`); their rows are written after the others."""
OF_CUT_OFFS = (cut_offs, search_index)
PROJECTIONS = (*OF_EVERY_COMMIT, *OF_NOTABLE_COMMITS, cut_offs, tenants)
STATEMENTS = (
    tuple(statement for projection in PROJECTIONS for statement in projection.STATEMENTS) + foreign_messages.STATEMENTS
)

PART = 1
"""The `user_version` of a file with a part of the log, such as one family, which must not be taken for the whole."""
CACHE_KIB = 64 * 1024

_MARKS = "applied-", "checkpoint-"
"""A file with such a table is a read model; the second name is that of earlier versions."""

migrations = Migrations("read-model")
for name, create in TABLES.items():
    migrations(name=name)(create)


indexes = Migrations("indexes")


@indexes(name="indexes-1")
def create_indexes(db: Database) -> None:
    """Create the indexes of all tables."""
    for projection in PROJECTIONS:
        for statement in projection.INDEXES:
            db.execute(statement)


class UnusableReadModel(Exception):
    """The file is no read model of this version."""


class OtherVersion(UnusableReadModel):
    """The file is a read model of another version; queries about unchanged tables still work."""


class Halted(Exception):
    """The read model cannot go past a commit, whose sequence is `seq`."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(f"halted at sequence {seq}: {why}")
        self.seq = seq


class ReadModel:
    """The only writer of a read model file, which it creates if need be. Raises `UnusableReadModel`.

    That of a part of the log, whose file is marked with `PART`, may have gaps.
    """

    def __init__(self, path: Path) -> None:
        self.skipped: list[Foreign] = []
        """The foreign messages since the caller last took them from here."""
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise UnusableReadModel(str(error)) from error
        try:
            self._db = Database(self._connection)
            _prepare(self._db)
            self._gapless = self._connection.execute("PRAGMA user_version").fetchone()[0] != PART
            self._load()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise UnusableReadModel(str(error)) from error
        except UnusableReadModel:
            self._connection.close()
            raise

    def stands_on(self, stored: StoredMessage) -> bool:
        """Whether this is the commit applied last, which shows that the file was made from that log."""
        return stored.seq == self.applied and digest(stored.body) == self._last_body

    def apply(self, commits: Sequence[StoredMessage]) -> None:
        """Apply the next commits of the log; those applied already are skipped.

        Raises `Halted` at a missing or unreadable commit, after applying those before it.
        """
        rows = Rows(STATEMENTS)
        seen = self.applied
        self.skipped = [found for found in self.skipped if found.seq <= seen]  # the others were not written
        fresh = [stored for stored in commits if stored.seq > seen]
        for index, stored in enumerate(fresh):
            try:
                self._collect(stored, seen, rows)
            except (Unprojectable, TypeError, ValueError) as error:
                self._forget()
                self.apply(fresh[:index])
                raise Halted(seen + 1 if self._gapless else stored.seq, str(error)) from error
            seen = stored.seq
        if fresh:
            self._write(fresh, rows)

    @property
    def foreign(self) -> int:
        """The number of foreign messages in the log so far."""
        return foreign_messages.count(self._connection)

    def close(self) -> None:
        """Close the file, with its indexes: it is complete in itself then, and can be queried."""
        if not indexes.applied(self._db):
            indexes.apply(self._db)
            _forget_when(self._db)
            # also while it is read: only the file itself is renamed when it replaces another
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _load(self) -> None:
        self._forget()
        self.applied, self._last_body = applied.load(self._connection)

    def _forget(self) -> None:
        """Reset the lookups to what is in the file, after a batch that was not written."""
        self._names = interned_names.Names(self._connection)
        self._families = FamilyLookup(self._connection)

    def _collect(self, stored: StoredMessage, seen: int, rows: Rows) -> None:
        if stored.seq != seen + 1 and self._gapless:
            raise Unprojectable(f"the log goes on at {stored.seq}; what lay between is missing")
        commit = read_commit(stored)
        if commit is None:
            return
        if isinstance(commit, Foreign):
            foreign_messages.apply(commit, rows)
            self.skipped.append(commit)
            return
        if isinstance(commit, FamilyCommit):
            found = self._families.find(commit, self._names[commit.tenant])
            commit.opened, commit.last_renewal_seq, commit.access_until = found
            for projection in OF_EVERY_COMMIT:
                projection.apply(commit, self._names, rows)
            if commit.is_notable:
                for of_notable in OF_NOTABLE_COMMITS:
                    of_notable.apply(commit, self._names, rows)
        elif isinstance(commit, TenantCommit):
            tenants.apply(commit, self._names, rows)
        else:
            for of_cut_offs in OF_CUT_OFFS:
                of_cut_offs.apply(commit, self._names, rows)

    def _skip(self, stored: StoredMessage) -> None:
        """Count a commit as foreign that contradicts the read model: the service cannot have appended it."""
        rows, found = Rows(STATEMENTS), grammar.foreign(stored, "a commit that cannot follow what came before it")
        foreign_messages.apply(found, rows)
        self.skipped.append(found)
        self._write([stored], rows)

    def _write(self, commits: list[StoredMessage], rows: Rows) -> None:
        try:
            with self._db.atomic():
                applied.move(self._connection, self.applied, commits[-1])
                self._connection.executemany(interned_names.INSERT, self._names.new)
                for statement in STATEMENTS:
                    if parameters := rows[statement]:
                        self._connection.executemany(statement, parameters)
        except applied.MovedBySomebodyElse:
            # a writer whose parent was killed may finish its work beside the next one
            self._load()
            self.apply(commits)
            return
        except sqlite3.IntegrityError:
            self._forget()
            if len(commits) == 1:
                self._skip(commits[0])
                return
            for stored in commits:  # one by one, to apply as many as possible and to find the one at fault
                self.apply([stored])
            return
        except sqlite3.DatabaseError:
            self._forget()
            raise
        self._names.new.clear()
        self._families.make_room()
        self.applied = commits[-1].seq
        self._last_body = digest(commits[-1].body)


def open_for_queries(path: Path) -> sqlite3.Connection:
    """A read-only connection, for one thread at a time. Raises `sqlite3.DatabaseError`."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    connection.isolation_level = None
    connection.row_factory = sqlite3.Row
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB // 8}")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _prepare(db: Database) -> None:
    db.conn.execute("PRAGMA synchronous = NORMAL")  # the log restores what a power cut takes from the file
    db.conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    if not db.table_names():
        db.enable_wal()
        migrations.apply(db)
        _forget_when(db)
    expect_this_version(db.conn)


def expect_this_version(connection: sqlite3.Connection) -> None:
    """Raises `UnusableReadModel` where the file has other tables than this version creates."""
    found = [migration.name for migration in migrations.applied(Database(connection))]
    if found != list(TABLES):
        kind = OtherVersion if any(name.startswith(_MARKS) for name in found) else UnusableReadModel
        raise kind(f"it holds the tables {', '.join(found) or 'of something else'}")


def _forget_when(db: Database) -> None:
    # sqlite-utils records when a table was created; a rebuilt read model must be equal to the byte
    db.execute("UPDATE _sqlite_migrations SET applied_at = ''")
