"""What the console shows of a read model, and what it refuses."""

import html
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from events.log.stored_message import StoredMessage
from heirloom.console.canned_queries import QUERIES
from heirloom.console.dashboard import look
from heirloom.console.database import connect
from heirloom.console.view_metadata import TABLES
from projections.queries.blast_radius import blast_radius
from projections.queries.query import QueryContext
from projections.queries.requests import FamilyRequest
from projections.read_model import ReadModel, UnusableReadModel, open_for_queries
from projections.tables.readable_views import VIEWS
from tests.console.site import LOG, Site, make, site
from tests.projections.logs import START, LogMaker, chained_log, passed_on_log, swapped_log


async def test_every_page(console: Site) -> None:
    """The dashboard, each canned query and each view open, without a script or anything from other sites."""
    pages = ["/", "/read-model", *(f"/read-model/{name}" for name in (*QUERIES, *TABLES))]
    for path in pages:
        page = await console.page(path)
        assert "<script" not in page
        assert "style=" not in page
        assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', page.replace("http://127.0.0.1:8001/", "/"))
    assert set(TABLES) == set(VIEWS)


async def test_canned_queries(console: Site) -> None:
    """Each with its parameters."""
    incidents = await console.rows("incidents", tenant="acme")
    assert [(row["family_id"], row["type"]) for row in incidents] == [
        ("f0", "LateDuplicateRefused"),
        ("f4", "ForgeryDetected"),
        ("f2", "TokenReuseDetected"),
        ("f2", "TokenReuseDetected"),
    ]
    assert incidents[-1]["at"] == "2026-11-20T12:00:35.000000Z"
    assert [row["family_id"] for row in await console.rows("revocations", reason="operator")] == ["f5"]
    assert [row["tenant"] for row in await console.rows("revocations", reason="reuse_detected")] == ["globex", "acme"]
    timeline = await console.rows("family", family_id="f2", tenant="acme")
    assert [row["generation"] for row in timeline[:4]] == [0, 1, 2, 3]
    assert (timeline[4]["presented"], timeline[4]["reason"]) == ("generation 0 by app", "reuse_detected")
    assert {row["family_id"] for row in await console.rows("subject", sub="user2")} == {"f2", "f5"}
    assert len(await console.rows("client", client_id="web", tenant="acme")) == 4
    assert {row["reason"] for row in await console.rows("client", client_id="app")} >= {"code_reuse", "forgery", None}
    assert "f2" not in {row["family_id"] for row in await console.rows("living_families")}
    assert (await console.rows("activity", tenant="globex"))[0] == {
        "hour": "2026-11-20T12:00:00.000000Z",
        "begun": 1,
        "issued": 2,
        "refreshed": 1,
        "revoked": 1,
        "tokens_revoked": 0,
        "reuse": 1,
        "forged": 0,
    }
    assert await console.rows("incidents", since="2026-11-20T13:00Z") == []


@pytest.mark.parametrize(
    "since", ["600w", "2026-11-20", "2026-11-20 12:00:35", "2026-11-20T14:00:35+02:00", "0500-01-01"]
)
async def test_a_time_in_any_way_of_writing_it(console: Site, since: str) -> None:
    """In UTC, where no zone is named."""
    assert len(await console.rows("incidents", since=since, tenant="acme", sub="")) == 4


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"since": "last tuesday"}, "is no time; write it like"),
        ({"since": "2026-31-12"}, "is no time; write it like"),
        ({"since": "2100-01-01"}, "is still to come"),
        ({"tenant": "nosuch"}, "There is no tenant of that name here."),
        ({"reason": "stolen"}, "These are all: reuse_detected, code_reuse"),
    ],
)
async def test_nothing_is_no_answer_to_what_is_not_understood(
    console: Site, parameters: dict[str, str], why: str
) -> None:
    """A slip of the pen is an error, as a page and for programs."""
    page = await console.get("/read-model/revocations", params=parameters)
    assert page.status_code == 400 and why in html.unescape(page.text)
    answer = await console.get("/read-model/revocations.json", params=parameters)
    assert answer.status_code == 400 and why in answer.json()["error"]


@pytest.mark.parametrize(
    "path", ["~69ncidents.json?tenant=nosuch", "incidents.json?tenant=nosuch&tenant=acme", "incidents.csv?since=soon"]
)
async def test_what_is_checked_is_what_is_asked(console: Site, path: str) -> None:
    """However the address is written."""
    assert (await console.get(f"/read-model/{path}")).status_code == 400


async def test_nothing_says_what_was_looked_for(console: Site) -> None:
    """So that a name written wrong is seen."""
    assert "Nothing here matches client <b>wbe</b>." in await console.page("/read-model/incidents?client_id=wbe")


async def test_the_blast_radius_equals_the_audits(console: Site, read_model: Path) -> None:
    """The same tokens with the same time left, in each family with an incident."""
    with closing(open_for_queries(read_model)) as db:
        for tenant, family_id in (("acme", "f2"), ("acme", "f4"), ("globex", "f1"), ("initech", "c1")):
            audited = blast_radius(QueryContext(db, tenant, 0), FamilyRequest(family_id=family_id))["alive"]
            rows = await console.rows("blast_radius", family_id=family_id, tenant=tenant)
            shown = [(row["kind"], row["jti"], row["scope"], row["seconds_left"]) for row in rows]
            told = [(one["kind"], one.get("jti"), one["scope"], one["seconds_left"]) for one in audited]
            assert shown == told
            assert audited or family_id == "c1"
    assert await console.rows("blast_radius", family_id="f0", tenant="acme") == [], "a late duplicate is no theft"


@pytest.mark.parametrize("log", [swapped_log, chained_log, passed_on_log])
def test_the_blast_radius_leaves_out_void_exchanged_tokens(
    log: Callable[[], list[StoredMessage]], tmp_path: Path
) -> None:
    """As the audit does: those of a disabled client or actor, and those exchanged from a revoked token."""
    model = ReadModel(tmp_path / "swapped")
    model.apply(log())
    model.close()
    with closing(connect(tmp_path / "swapped")) as db:
        rows = db.execute(QUERIES["blast_radius"]["sql"], {"family_id": "f", "tenant": ""}).fetchall()
    with closing(open_for_queries(tmp_path / "swapped")) as db:
        audited = blast_radius(QueryContext(db, "acme", 0), FamilyRequest(family_id="f"))["alive"]
    assert [row["jti"] for row in rows] == [token.get("jti") for token in audited]


async def test_rows_link_onwards(console: Site) -> None:
    """From an incident to its family, from there to the blast radius and the subject."""
    page = await console.page("/read-model/incidents?tenant=acme")
    assert 'href="/read-model/family?family_id=f2&amp;tenant=acme"' in page
    page = await console.page("/read-model/family?family_id=f2&tenant=acme")
    assert 'href="/read-model/blast_radius?family_id=f2&amp;tenant=acme"' in page
    assert 'href="/read-model/subject?sub=user2&amp;tenant=acme"' in page
    assert "Revoked" in page


async def test_facets(console: Site) -> None:
    """Reasons and clients can be clicked, as words."""
    page = await console.page("/read-model/readable_revocations")
    assert "reason=reuse_detected" in page
    assert "client_id=web" in page
    narrowed = await console.page("/read-model/readable_revocations?reason=operator")
    assert "1 row" in narrowed


async def test_a_csv_holds_all_columns(console: Site, read_model: Path) -> None:
    """And all rows, with the ids of access tokens."""
    lines = (await console.page("/read-model/readable_history.csv?_stream=1")).splitlines()
    with closing(connect(read_model)) as db:
        assert len(lines) == 1 + db.execute("SELECT count(*) FROM readable_history").fetchone()[0]
    assert any(",f2-3," in line for line in lines)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/read-model/families", 404),
        ("/read-model/names.json", 404),
        ("/read-model/checkpoint", 404),
        ("/read-model/readable_families/2", 404),
        ("/read-model/sqlite_master", 404),
        ("/_internal", 404),
        ("/_internal/databases.json", 404),
        ("/-/plugins.json", 404),
        ("/-/metadata", 404),
        ("/-/static/app.css", 404),
        ("/-/auth-token?token=x", 404),
        ("/read-model.db", 403),
        ("/read-model/../-/plugins", 404),
        ("/read-model?sql=select+1", 403),
        ("/read-model.json?sql=select+*+from+families", 403),
        ("/read-model/readable_families?_where=1%3D1", 403),
        ("/read-model/readable_families?_sort=nothing", 400),
        ("/read-model/incidents?_timelimit=x", 400),
    ],
)
async def test_refused_paths(console: Site, path: str, status: int) -> None:
    """The tables beneath the views, Datasette's own pages, SQL, the file itself: one line, never a traceback."""
    response = await console.client.request("GET", path, headers={"accept": "text/html"})
    assert response.status_code == status
    assert "Traceback" not in response.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_written(console: Site, method: str) -> None:
    """By any method."""
    for path in ("/", "/read-model", "/read-model/incidents", "/read-model/readable_families"):
        answer = await console.client.request(method, path, data={"sql": "delete from families"})
        assert answer.status_code == 405, path


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM families",
        "UPDATE names SET text = 'nobody'",
        "INSERT INTO names VALUES (99, 'x')",
        "DROP VIEW readable_families",
        "CREATE TEMP TABLE t (x)",
        "ATTACH 'other.db' AS other",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = 1",
        "VACUUM INTO 'copy.db'",
        "SELECT text FROM names",
        "SELECT * FROM families",
        "SELECT zeroblob(1000000000)",
    ],
)
def test_the_connection_refuses_writes_and_tables(read_model: Path, sql: str) -> None:
    """SQLite itself refuses to write, to attach files, and to read the tables beneath the views."""
    before = read_model.read_bytes()
    with closing(connect(read_model)) as db:
        try:
            found = db.execute(sql).fetchall()
        except (sqlite3.DatabaseError, OverflowError):
            found = []
        assert [tuple(row) for row in found] in ([], [("wal",)])
    assert read_model.read_bytes() == before


async def test_sql_if_allowed(read_model: Path) -> None:
    """With --sql, over the views only."""
    async with site(read_model, sql=True) as browser:
        counted = "/read-model.json?_shape=array&sql=select+count(*)+as+n+from+readable_incidents"
        assert (await browser.get(counted)).json() == [{"n": 6}]
        assert (await browser.get("/read-model?sql=select+*+from+names")).status_code in (200, 400)
        assert "user2" not in (await browser.get("/read-model?sql=select+sub+from+families")).text
        assert (await browser.get("/read-model?sql=delete+from+families")).status_code == 400
        assert "textarea" in await browser.page("/read-model")


async def test_a_console_of_one_tenant(read_model: Path) -> None:
    """No page shows a row of another one, whatever the parameters."""
    async with site(read_model, tenant="globex") as browser:
        for query in ("incidents", "revocations", "living_families", "readable_families", "readable_history"):
            rows = await browser.rows(query, **({} if query.startswith("readable") else {"tenant": ""}))
            assert {row["tenant"] for row in rows} <= {"globex"}
        others = await browser.get("/read-model/family", params={"family_id": "f2", "tenant": "acme"})
        assert others.status_code == 400 and "no tenant of that name" in others.text
        assert await browser.rows("family", family_id="f2") == []
        assert [row["presented"] for row in await browser.rows("family", family_id="f1")][-1] is not None
        for path in ("/", "/read-model/family?family_id=f2", "/read-model/readable_tenants"):
            page = await browser.page(path)
            assert "user2" not in page
            assert "initech" not in page


async def test_text_from_clients_is_escaped(tmp_path: Path) -> None:
    """Markup and addresses in a `sub` are neither markup nor links."""
    made = LogMaker()
    made.open("evil", sub='<img src=x onerror="alert(1)">')
    made.open("link", sub="https://elsewhere.example/")
    made.reuse("evil")
    model = ReadModel(tmp_path / "model")
    model.apply(made.log)
    model.close()
    async with site(tmp_path / "model") as browser:
        for path in (
            "/",
            "/read-model/incidents",
            "/read-model/readable_families",
            "/read-model/family?family_id=evil",
        ):
            page = await browser.page(path)
            assert "<img" not in page
            assert 'href="https://elsewhere' not in page


def test_the_dashboard_counts_the_last_day(read_model: Path) -> None:
    """Hour by hour, with the newest incidents and the read model's position."""
    now = START + timedelta(hours=3)
    with closing(connect(read_model)) as db:
        seen = look(db, now)
        empty = look(db, now + timedelta(days=2))
    totals = {chart["name"]: chart["total"] for chart in seen["charts"]}
    assert totals == {"issued": 35, "refreshed": 26, "revoked": 5, "reuse": 5}
    bars = seen["charts"][0]["bars"]
    assert [bar.number for bar in bars if bar.number] == [35]
    assert bars[-4].hour == "2026-11-20T12:00:00.000000Z"
    assert [row["family_id"] for row in seen["incidents"]] == ["c1", "f1", "f4", "f2", "f2"]
    assert {row["reason"]: row["times"] for row in seen["reasons"]}["reuse_detected"] == 2
    assert (seen["newest"]["seq"], seen["age"]) == (len(LOG), "2 hours ago")
    assert [chart["total"] for chart in empty["charts"]] == [0, 0, 0, 0]


async def test_an_empty_read_model(tmp_path: Path) -> None:
    """As of a service that has just started."""
    async with site(make(tmp_path / "model", 0)) as browser:
        assert "Nothing has happened yet" in await browser.page("/")


async def test_a_replaced_file_is_reopened(tmp_path: Path) -> None:
    """As the projector replaces it; a missing file or another version gives 503."""
    path = make(tmp_path / "model", 10)
    async with site(path) as browser:
        assert len(await browser.rows("readable_history")) == 9
        make(tmp_path / "beside").replace(path)
        assert len(await browser.rows("readable_history", _size="max")) > 40
        path.rename(tmp_path / "away")
        missing = await browser.get("/")
        assert (missing.status_code, "heirloom up" in missing.text) == (503, True)
        other = make(tmp_path / "other")
        with closing(sqlite3.connect(other)) as db, db:
            db.execute("UPDATE _sqlite_migrations SET name = 'views-0' WHERE name LIKE 'views-%'")
        other.replace(path)
        assert (await browser.get("/read-model/incidents")).status_code == 503
        (tmp_path / "away").replace(path)
        assert "f2" in await browser.page("/read-model/incidents")


@pytest.mark.parametrize("damage", ["missing", "garbage", "truncated", "other tables"])
def test_an_unusable_file(tmp_path: Path, damage: str) -> None:
    """It is refused by name before anything is served."""
    path = tmp_path / "model"
    match damage:
        case "garbage":
            path.write_bytes(b"this is no database, and long enough to be sure of it" * 100)
        case "truncated":
            path.write_bytes(make(path).read_bytes()[:10_000])
        case "other tables":
            with closing(sqlite3.connect(path)) as db:
                db.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(UnusableReadModel, match=r"/model\b"):
        connect(path).close()
    assert not list(tmp_path.glob("missing*"))
