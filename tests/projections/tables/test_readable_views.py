"""The readable views show the tables' numbers as words."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from projections.read_model import ReadModel, open_for_queries
from tests.projections.logs import eventful_log
from tests.projections.queries.local_audit import LocalAudit

TENANTS = ("acme", "globex", "initech")
RENAMED = {"presented_generation": "generation", "newest_generation": "current_generation", "began_at": "opened_at"}


@pytest.mark.parametrize("query", ["families", "incidents", "revocations"])
async def test_the_views_agree_with_the_audit(ask: LocalAudit, tmp_path: Path, query: str) -> None:
    """Row by row, in all columns that both have."""
    audited = [
        {**item, "tenant": tenant} for tenant in TENANTS for item in (await ask(query, tenant, limit=1000))["items"]
    ]
    with closing(open_for_queries(tmp_path / "model")) as db:
        rows = [dict(row) for row in db.execute(f"SELECT * FROM readable_{query}")]
    seq = "opened_seq" if query == "families" else "seq"
    assert sorted(row["seq"] for row in rows) == sorted(item[seq] for item in audited)
    by_seq = {item[seq]: item for item in audited}
    for row in rows:
        told = by_seq[row.pop("seq")]
        row.pop("status", None)  # the audit's is as of another time
        compared = {RENAMED.get(column, column): value for column, value in row.items()}
        common = compared.keys() & told.keys()
        assert len(common) >= 7
        assert {name: compared[name] for name in common} == {name: _same(told[name]) for name in common}


async def test_the_timeline_and_the_hours(ask: LocalAudit, tmp_path: Path) -> None:
    """Events in order, times and scopes of the tokens; counts per hour."""
    told = (await ask("family", family_id="f2"))["timeline"]
    with closing(open_for_queries(tmp_path / "model")) as db:
        rows = db.execute("SELECT * FROM readable_history WHERE family_id = 'f2' ORDER BY seq").fetchall()
        hours = [dict(row) for row in db.execute("SELECT * FROM readable_activity WHERE tenant = 'acme'")]
        tenants = {row["tenant"] for row in db.execute("SELECT * FROM readable_tenants")}
        orders = [row["type"] for row in db.execute("SELECT * FROM readable_cut_offs ORDER BY seq")]
    assert [row["events"].split(" ") for row in rows] == [entry["types"] for entry in told]
    assert [row["access_expires_at"] for row in rows] == [_same(entry.get("access_expires_at")) for entry in told]
    assert [row["scope"] for row in rows] == [entry.get("scope") for entry in told]
    counted = (await ask("activity"))["items"]
    assert [{**item, "hour": _same(item["hour"]), "tenant": "acme"} for item in counted] == hours
    assert tenants == set(TENANTS)
    assert orders == ["SubjectBlocked", "SubjectUnblocked", "ClientDisabled"]


def test_lists_are_read_from_their_indexes(tmp_path: Path) -> None:
    """The console's first queries neither sort nor read a whole table."""
    model = ReadModel(tmp_path / "model")
    model.apply(eventful_log())
    model.close()
    with closing(sqlite3.connect(tmp_path / "model")) as db:
        for sql in (
            "SELECT * FROM readable_families ORDER BY seq DESC LIMIT 50",
            "SELECT * FROM readable_history ORDER BY seq DESC LIMIT 50",
            "SELECT * FROM readable_families WHERE family_id = 'f1'",
            "SELECT * FROM readable_families WHERE tenant = 'acme' AND sub = 'user1'",
            "SELECT * FROM readable_history WHERE family_id = 'f1'",
        ):
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
            assert not [step for step in plan if "TEMP B-TREE" in step]
            assert len([step for step in plan if step.startswith("SCAN")]) == ("LIMIT" in sql), plan


def _same(value: Any) -> Any:
    """A time of the audit with as many digits as in the views."""
    if isinstance(value, str) and value.endswith("Z") and value[:2] == "20":
        whole, _, fraction = value[:-1].partition(".")
        return f"{whole}.{fraction.ljust(6, '0')}Z"
    return value
