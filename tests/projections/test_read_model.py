"""The read model depends on the log alone: whatever the batches and crashes, it is the same to the byte."""

import contextlib
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.aggregates.family_events import TokenRedeemed, TokenRotated
from events.log.stored_message import StoredMessage
from projections.decoded_commit import microseconds
from projections.read_model import PART, Halted, ReadModel, UnusableReadModel, open_for_queries
from projections.tables import families
from tests.projections.logs import LogMaker, access_token, eventful_log, granted, refresh_token

LOG = eventful_log()


def dump(path: Path) -> str:
    """The whole file as SQL."""
    with sqlite3.connect(path) as connection:
        text = "\n".join(connection.iterdump())
    connection.close()
    return text


def build(path: Path, log: list[StoredMessage], sizes: list[int], *, restart: bool = False) -> str:
    """Project the log in batches of these sizes, reopening the file after each if `restart`; the dump."""
    model = ReadModel(path)
    start = 0
    for size in [*sizes, len(log)]:
        model.apply(log[start : start + size])
        start = min(start + size, len(log))
        if restart:
            model.close()
            model = ReadModel(path)
    model.close()
    return dump(path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 12), max_size=12), restart=st.booleans())
def test_the_same_file_whatever_the_batches(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], restart: bool
) -> None:
    """Neither batches nor restarts nor the time of building leave a trace."""
    directory = tmp_path_factory.mktemp("batches")
    assert build(directory / "a", LOG, sizes, restart=restart) == build(directory / "b", LOG, [])


def test_applied_commits_are_skipped(tmp_path: Path) -> None:
    """A reader that starts too early does no harm."""
    once = build(tmp_path / "once", LOG, [])
    model = ReadModel(tmp_path / "again")
    model.apply(LOG[:20])
    model.apply(LOG[:20])
    model.apply(LOG[5:])
    model.close()
    assert dump(tmp_path / "again") == once


def test_an_interrupted_transaction_leaves_nothing(tmp_path: Path) -> None:
    """Rows and checkpoint are written together, and the next attempt finds the state before it."""
    made = LogMaker()
    for number in range(400):
        made.open(f"f{number}")
        made.rotate(f"f{number}")
    model = ReadModel(tmp_path / "cut")
    model.apply(made.log[:10])
    model._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        model.apply(made.log[10:])
    assert model.applied == 10
    model._connection.execute("PRAGMA max_page_count = 2000")
    model.apply(made.log[10:])
    model.close()
    assert dump(tmp_path / "cut") == build(tmp_path / "whole", made.log, [])


def replaced(at: int, old: bytes, new: bytes) -> list[StoredMessage]:
    """The log with one commit's body changed."""
    stored = LOG[at - 1]
    assert old in stored.body
    return [*LOG[: at - 1], replace(stored, body=stored.body.replace(old, new)), *LOG[at:]]


@pytest.mark.parametrize(
    ("log", "seq", "why"),
    [
        ([*LOG[:14], *LOG[15:]], 15, "missing"),
        (replaced(15, b'"TokenRotated"', b'"TokenBlessed"'), 15, "TokenBlessed"),
        (replaced(15, b'{"v":1', b'{"v":2'), 15, "version 2"),
    ],
    ids=["gap", "unknown event", "unknown version"],
)
@pytest.mark.parametrize("size", [1, 100])
def test_it_halts_at_a_commit_it_cannot_apply(
    tmp_path: Path, log: list[StoredMessage], seq: int, why: str, size: int
) -> None:
    """The error names its sequence, and exactly the commits before it are applied."""
    model = ReadModel(tmp_path / "halted")
    with pytest.raises(Halted, match=rf"sequence {seq}\b.*{why}") as halted:
        for start in range(0, len(log), size):
            model.apply(log[start : start + size])
    assert (halted.value.seq, model.applied) == (seq, seq - 1)
    model.close()
    assert dump(tmp_path / "halted") == build(tmp_path / "until", LOG[: seq - 1], [])


def interspersed(log: list[StoredMessage]) -> list[StoredMessage]:
    """The log with a foreign message after every third commit, of every kind that a stranger can publish."""
    kinds = (
        ("tokens.public.jwks", b"{}"),
        ("tokens.acme.tenant", b"junk"),
        ("tokens.acme.family.f2.live", b"\xff"),
        ("tokens.acme.family.f2.revoked", log[14].body),
        ("tokens.acme.family.nobody.live", log[14].body),
        ("tokens.acme.family.f2.live", LOG[2].body),
        ("tokens.acme.client.web", b"[]"),
    )
    mixed: list[StoredMessage] = []
    for stored in log:
        mixed.append(replace(stored, seq=len(mixed) + 1))
        if stored.seq % 3 == 0:
            subject, body = kinds[stored.seq // 3 % len(kinds)]
            mixed.append(StoredMessage(len(mixed) + 1, subject, body))
    return mixed


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_foreign_messages_are_skipped(tmp_path: Path, size: int) -> None:
    """They are counted and named, in any batches, and the rest is as without them."""
    log = interspersed(LOG)
    model = ReadModel(tmp_path / "mixed")
    for start in range(0, len(log), size):
        model.apply(log[start : start + size])
    expected = [stored.seq for number, stored in enumerate(log) if stored.body != LOG[number - number // 4].body]
    assert [found.seq for found in model.skipped] == expected and model.foreign == len(expected) > 15
    assert model.applied == len(log)
    model.close()
    assert dump(tmp_path / "mixed") == build(tmp_path / "again", log, [])
    build(tmp_path / "plain", LOG, [])
    with closing(sqlite3.connect(tmp_path / "mixed")) as mixed, closing(sqlite3.connect(tmp_path / "plain")) as plain:
        for query in ("SELECT family_id, generation, revoked_at FROM families", "SELECT count(*) FROM history"):
            assert mixed.execute(query).fetchall() == plain.execute(query).fetchall()


def test_a_part_of_the_log_has_gaps(tmp_path: Path) -> None:
    """A replay of one family."""
    with closing(sqlite3.connect(tmp_path / "part")) as marked:
        marked.execute(f"PRAGMA user_version = {PART}")
    model = ReadModel(tmp_path / "part")
    model.apply([stored for stored in LOG if ".family.f2." in stored.subject and "acme" in stored.subject])
    model.close()
    with sqlite3.connect(tmp_path / "part") as connection:
        assert connection.execute("SELECT count(*), max(generation) FROM families").fetchone() == (1, 3)
    connection.close()


def test_it_recognises_its_own_log(tmp_path: Path) -> None:
    """By the last commit: the sequence alone would fit any log that is long enough."""
    model = ReadModel(tmp_path / "model")
    model.apply(LOG[:10])
    model.close()
    model = ReadModel(tmp_path / "model")
    other = LogMaker()
    for number in range(10):
        other.open(f"g{number}")
    assert model.stands_on(LOG[9])
    assert not model.stands_on(other.log[9])
    model.close()


@pytest.mark.parametrize("damage", ["garbage", "truncated", "other tables", "other version"])
def test_it_refuses_an_unusable_file(tmp_path: Path, damage: str) -> None:
    """To rebuild it is the caller's decision."""
    path = tmp_path / "model"
    build(path, LOG, [])
    match damage:
        case "garbage":
            path.write_bytes(b"this is no database, and long enough to be sure of it" * 100)
        case "truncated":
            path.write_bytes(path.read_bytes()[:10_000])
        case "other tables":
            path.unlink()
            connection = sqlite3.connect(path)
            connection.execute("CREATE TABLE recipes (name TEXT)")
            connection.close()
        case "other version":
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("UPDATE _sqlite_migrations SET name = 'families-0' WHERE name LIKE 'families-%'")
            connection.close()
    with pytest.raises(UnusableReadModel):
        ReadModel(path)


def test_indexes_are_created_when_it_is_first_closed(tmp_path: Path) -> None:
    """If the first writer dies before that, the next one to close it creates them."""
    model = ReadModel(tmp_path / "died")
    model.apply(LOG)
    model._connection.close()
    assert "CREATE INDEX" not in dump(tmp_path / "died")
    ReadModel(tmp_path / "died").close()
    assert dump(tmp_path / "died") == build(tmp_path / "whole", LOG, [3], restart=True)
    assert "CREATE INDEX history_by_jti" in dump(tmp_path / "died")


def test_a_family_lives_as_long_as_any_of_its_tokens(tmp_path: Path) -> None:
    """Also as one issued with a longer lifetime before the latest refresh: cut-offs look for it."""
    made = LogMaker()
    soon, late = made.now + timedelta(seconds=10), made.now + timedelta(hours=1)
    made.commit("f", granted(sub="dave"), refresh_token(late), access_token("j0", late))
    rotated = TokenRedeemed(0, "refresh_token"), TokenRotated(0, 1, soon, 1)
    made.commit("f", *rotated, access_token("j1", soon))
    build(tmp_path / "model", made.log, [])
    with contextlib.closing(open_for_queries(tmp_path / "model")) as db:
        status = {
            after: (families.find(db, "acme", "f", microseconds(late + timedelta(seconds=after))) or {})["status"]
            for after in (-1, 1)
        }
    assert status == {-1: "live", 1: "expired"}
