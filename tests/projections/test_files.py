"""A read model file that is missing, old, truncated, or cannot be written: rebuilt, or reported with what to do."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.bus.connect import connect
from events.fairness.request_gate import GateKey
from events.log.stream import last_sequence
from projections.progress import Progress
from projections.projector import follower
from projections.projector.feed import feed
from projections.projector.follower import Follower
from projections.queries.server import Audit
from projections.read_model import ReadModel, UnusableReadModel
from tests.broker import Broker
from tests.projections.logs import eventful_log
from tests.projections.projector.test_projector import publish
from tests.projections.queries.local_audit import LocalAudit
from tests.projections.test_read_model import build

LOG = eventful_log()
PATIENCE_SECONDS = 20
WRITE_VERSION = 18
"""The byte of a SQLite file with the version needed to write it: above 2 the file is read-only, also for root."""

Ask = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come soon."""
    monkeypatch.setattr(follower, "RETRY_SECONDS", 0.05)


@asynccontextmanager
async def following(broker: Broker, path: Path) -> AsyncIterator[Ask]:
    """A follower of the log into that file; yields a function for queries."""
    connection = await connect(broker.url, "test")
    progress = Progress()
    audit = Audit(progress, partial(last_sequence, connection))
    task = asyncio.create_task(Follower(connection, path, progress, audit, asyncio.Event()).follow())

    async def ask(query: str, **parameters: Any) -> dict[str, Any]:
        body, _ = await audit.answer(
            f"audit.acme.{query}", msgspec.json.encode(parameters), GateKey("acme", is_own=False)
        )
        answer: dict[str, Any] = msgspec.json.decode(body)
        return answer

    try:
        yield ask
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await audit.close()
        await connection.close()


async def until(ask: Ask, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait for a position with that property."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds(position := await ask("position")):
            await asyncio.sleep(0.02)
    return position


def has_caught_up(position: dict[str, Any]) -> bool:
    """Nothing is pending, and no obstacle."""
    return position["lag"] == 0 and "obstacle" not in position


def test_a_truncated_file_is_detected(tmp_path: Path) -> None:
    """At every page. An empty file becomes a new read model."""
    build(tmp_path / "whole", LOG, [])
    whole = (tmp_path / "whole").read_bytes()
    page = int.from_bytes(whole[16:18])
    for length in (*range(page, len(whole), page), 100, page + 1):
        path = tmp_path / f"cut-{length}"
        path.write_bytes(whole[:length])
        with pytest.raises(UnusableReadModel):
            ReadModel(path)
    (tmp_path / "empty").touch()
    assert build(tmp_path / "empty", LOG, []) == build(tmp_path / "whole", [], [])


async def test_an_older_version_answers_during_the_rebuild(
    nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unchanged tables can be queried; other queries are refused as being built; afterwards all can."""
    path, go_on = tmp_path / "model", asyncio.Event()
    build(path, LOG[:20], [])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE _sqlite_migrations SET name = 'words-0' WHERE name LIKE 'words-%'")
        db.execute("ALTER TABLE words RENAME TO sayings")

    async def held(*arguments: Any, **found: Any) -> Any:
        await go_on.wait()
        return await feed(*arguments, **found)

    monkeypatch.setattr(follower, "feed", held)
    await publish(nats_server, LOG)
    async with following(nats_server, path) as ask:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "error" in await ask("families"):
                await asyncio.sleep(0.02)
        assert (await ask("family", family_id="f7"))["generation"] == 1
        answer = await ask("search", text="reuse")
        assert (answer["error"], "being built" in answer["error_description"]) == ("temporarily_unavailable", True)
        assert (await ask("position"))["lag"] == len(LOG)
        go_on.set()
        await until(ask, has_caught_up)
        assert (await ask("search", text="reuse"))["items"]
        assert (await ask("family", family_id="f7"))["generation"] == 3


async def test_a_file_that_cannot_be_created_is_retried(nats_server: Broker, tmp_path: Path) -> None:
    """While something else is in its place, queries are refused with that reason."""
    path = tmp_path / "model"
    path.mkdir()
    await publish(nats_server, LOG)
    async with following(nats_server, path) as ask:
        position = await until(ask, lambda position: "obstacle" in position)
        assert position["lag"] == len(LOG)
        assert "model cannot be made" in position["obstacle"]
        answer = await ask("families", min_seq=5)
        assert (answer["error"], "it is tried again" in answer["error_description"]) == (
            "temporarily_unavailable",
            True,
        )
        path.rmdir()
        await until(ask, has_caught_up)


async def test_a_file_that_cannot_be_written_still_answers(nats_server: Broker, tmp_path: Path) -> None:
    """Queries see its content, and how far behind it is and why; it goes on when it can."""
    path = tmp_path / "model"
    build(path, LOG[:20], [])
    _set_write_version(path, 3)
    await publish(nats_server, LOG)
    async with following(nats_server, path) as ask:
        position = await until(ask, lambda position: "obstacle" in position)
        assert (position["applied_seq"], position["lag"]) == (20, len(LOG) - 20)
        assert "model cannot be written: attempt to write a readonly database" in position["obstacle"]
        assert (await ask("families"))["items"]
        refused = await ask("families", min_seq=21)
        assert "cannot be written" in refused["error_description"]
        _set_write_version(path, 2)
        await until(ask, has_caught_up)
        assert (await ask("families", min_seq=len(LOG)))["items"]


async def test_a_damaged_file_is_reported(ask: LocalAudit, tmp_path: Path) -> None:
    """Zeros over a table's root page: every query that reads it is refused with what to do."""
    await ask.audit.close()
    path = tmp_path / "damaged"
    build(path, LOG, [])
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'families'").fetchone()
        (page,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(bytes(page))
    ask.audit.open(path)
    answer = await ask("families")
    assert (answer["error"], "is damaged" in answer["error_description"]) == ("temporarily_unavailable", True)
    assert (await ask("activity"))["items"]


def _set_write_version(path: Path, version: int) -> None:
    with path.open("r+b") as file:
        file.seek(WRITE_VERSION)
        file.write(bytes([version]))
