"""The audit's server: replies, tenants, pages, waiting, and refusals."""

import asyncio
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.log.jetstream_api import JetStreamMissing
from projections import pagination as page
from projections.decoded_commit import microseconds
from projections.queries import server as audit_queries
from tests.projections.logs import LogMaker
from tests.projections.queries.local_audit import LOG, LocalAudit, OpenAudit


def ids(items: list[dict[str, Any]]) -> list[str]:
    """The family ids of the items."""
    return [item["family_id"] for item in items]


async def test_a_familys_timeline(ask: LocalAudit) -> None:
    """State and events in order: the theft, and the presentation after the end."""
    answer = await ask("family", family_id="f2")
    assert answer["status"] == "revoked"
    assert (answer["client_id"], answer["sub"], answer["generation"]) == ("app", "user2", 3)
    assert answer["reason"] == "reuse_detected"
    types = [" ".join(entry["types"]) for entry in answer["timeline"]]
    assert types == [
        "GrantAuthorized TokenIssued TokenIssued",
        *["TokenRedeemed TokenRotated TokenIssued"] * 3,
        "TokenReuseDetected FamilyRevoked",
        "TokenReuseDetected",
    ]
    theft = answer["timeline"][4]
    assert (theft["generation"], theft["current_generation"], theft["reason"]) == (0, 3, "reuse_detected")
    assert theft["at"] == answer["revoked_at"]
    assert [entry["seq"] for entry in answer["timeline"]] == sorted(entry["seq"] for entry in answer["timeline"])
    first = await ask("family", family_id="f2", limit=4)
    rest = await ask("family", family_id="f2", limit=4, cursor=first["cursor"])
    assert first["timeline"] + rest["timeline"] == answer["timeline"]


@pytest.mark.parametrize("query", audit_queries.QUERIES)
async def test_nothing_is_no_answer_about_an_unknown_tenant(ask: LocalAudit, query: str) -> None:
    """A slip of the pen must not read as an all-clear."""
    ask.progress.advance(len(LOG) + 5)
    given: dict[str, dict[str, Any]] = {
        "family": {"family_id": "f1"},
        "blast_radius": {"family_id": "f1"},
        "token": {"jti": "f2-1"},
    }
    given |= {"diff": {"from_seq": 0, "to_seq": 1}, "subject": {"sub": "user2"}, "search": {"text": "laptop"}}
    answer = await ask(query, "nosuch", **given.get(query, {}))
    assert answer == {"error": "invalid_request", "error_description": "the log has no tenant of that name"}


async def test_a_tenant_without_families_is_known_once_its_settings_are_applied(asking: OpenAudit) -> None:
    """Also where it is asked about before that: the question waits until the read model is as far as the log."""
    log = LogMaker()
    log.configure_tenant("initech")
    ask = await asking([])
    asked = asyncio.create_task(ask("incidents", "initech"))
    await asyncio.sleep(0)
    ask.apply(log.log)
    ask.progress.advance(len(LOG) + 5)
    assert (await asked)["items"] == []


async def test_a_family_is_visible_to_its_own_tenant_only(ask: LocalAudit) -> None:
    """Two tenants may have the same id."""
    assert (await ask("family", "globex", family_id="f1"))["reason"] == "reuse_detected"
    assert (await ask("family", family_id="f1"))["status"] == "live"
    for tenant, family_id in [("globex", "f2"), ("acme", "x' OR '1'='1")]:
        answer = await ask("family", tenant, family_id=family_id)
        assert answer == {"error": "invalid_request", "error_description": "there is no such family"}


@pytest.mark.parametrize(
    ("query", "parameters", "expected"),
    [
        ("families", {}, ["f7", "f6", "f5", "f4", "f3", "f2", "f1", "f0"]),
        ("families", {"status": "revoked"}, ["f5", "f4", "f2"]),
        ("families", {"sub": "user1"}, ["f7", "f4", "f1"]),
        ("families", {"client_id": "web"}, ["f7", "f5", "f3", "f1"]),
        ("families", {"client_id": "web", "sub": "user1", "status": "revoked"}, []),
        ("families", {"sub": "nobody"}, []),
        ("families", {"client_id": "nobody"}, []),
        ("families", {"since": "2026-11-20T12:00:06Z", "until": "2026-11-20T13:00:07+01:00"}, ["f6", "f5"]),
        ("revocations", {}, ["f5", "f4", "f3", "f2"]),
        ("revocations", {"reason": "operator"}, ["f5"]),
        ("revocations", {"sub": "user2"}, ["f5", "f2"]),
        ("revocations", {"client_id": "app"}, ["f4", "f2"]),
        ("incidents", {}, ["f0", "f4", "f2", "f2"]),
        ("incidents", {"reason": "forgery"}, ["f4"]),
        ("incidents", {"reason": "late_duplicate"}, ["f0"]),
        ("incidents", {"reason": "operator"}, []),
        ("incidents", {"sub": "user2", "client_id": "app"}, ["f2", "f2"]),
    ],
)
async def test_lists_are_filtered(ask: LocalAudit, query: str, parameters: dict[str, Any], expected: list[str]) -> None:
    """Newest first, in pages of any size, without a row of another tenant."""
    assert ids((await ask(query, **parameters))["items"]) == expected
    assert ids(await ask.pages(query, 1, **parameters)) == expected


@pytest.mark.parametrize("looked_through", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("families", {"status": "live"}),
        ("families", {"status": "expired"}),
        ("families", {"status": "revoked", "client_id": "web"}),
        ("families", {"client_id": "web", "sub": "user1"}),
        ("revocations", {"reason": "operator", "sub": "user2"}),
        ("revocations", {"reason": "forgery", "client_id": "web"}),
        ("incidents", {"reason": "forgery", "client_id": "app"}),
        ("search", {"text": "reuse generation client"}),
        ("as_of", {"sub": "user1", "seq": 8}),
    ],
)
async def test_a_page_reads_a_bounded_number_of_rows(
    ask: LocalAudit, monkeypatch: pytest.MonkeyPatch, query: str, parameters: dict[str, Any], looked_through: int
) -> None:
    """Without a matching index a page may be empty; together the pages hold every item once."""
    whole = (await ask(query, **parameters))["items"]
    monkeypatch.setattr(page, "MAX_ROWS_READ", looked_through)
    assert await ask.pages(query, 2, **parameters) == whole


async def test_the_fields_of_a_revocation(ask: LocalAudit) -> None:
    """Time, family, client, subject, reason, actor and commit."""
    operator, _, token, _ = (await ask("revocations"))["items"]
    assert operator["actor"] == "operator"
    assert operator["cause"] == "request"
    assert operator["at"] == LOG[operator["seq"] - 1].body.split(b'"at":"')[1].split(b'"')[0].decode()
    assert token["jti"] == "f3-3"
    assert token["cause"] is None


async def test_a_family_expires_by_itself(ask: LocalAudit) -> None:
    """Expiry depends on the time alone; no event is needed."""
    ask.now = 1_900_000_000_000_000
    assert ids((await ask("families", status="expired"))["items"]) == ["f7", "f6", "f3", "f1", "f0"]
    assert (await ask("families", status="live"))["items"] == []
    assert (await ask("family", family_id="f0"))["status"] == "expired"


async def test_leeway_counts_the_just_expired_as_live(ask: LocalAudit) -> None:
    """For as long as `leeway` says: another clock may still see them alive."""
    ends = [(await ask("family", family_id=f"f{number}"))["expires_at"] for number in (0, 1, 3, 6, 7)]
    end = microseconds(datetime.fromisoformat(max(ends)))
    for seconds, leeway, found in ((1, 0, 0), (1, 2, 1), (2, 2, 0), (3, 2, 0)):
        ask.now = end + seconds * 1_000_000
        assert len((await ask("families", status="live", leeway=leeway))["items"]) == found
        assert len((await ask("families", status="expired", leeway=leeway))["items"]) == 5


async def test_families_that_begin_with_a_device_or_a_code(ask: LocalAudit) -> None:
    """Waiting, approved and denied devices; and a code presented twice."""
    items = {item["family_id"]: item for item in (await ask("families", "initech"))["items"]}
    assert {family: (item["sub"], item["status"]) for family, item in items.items()} == {
        "d1": ("ann", "live"),
        "d2": ("bob", "denied"),
        "c1": ("cat", "revoked"),
    }
    assert ids((await ask("incidents", "initech", reason="code_reuse"))["items"]) == ["c1"]


async def test_pages_are_stable_while_the_log_grows(ask: LocalAudit) -> None:
    """Every family of the first page's time is seen once."""
    made = LogMaker()
    made.log = list(LOG)
    page = await ask("families", limit=3)
    made.open("late1")
    ask.apply(made.log)
    rest = await ask("families", limit=1000, cursor=page["cursor"])
    assert ids(page["items"]) + ids(rest["items"]) == [f"f{number}" for number in range(7, -1, -1)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"sub": "\xff"}',
        b'{"sub": "\\ud800"}',
        b'{"sub": 5}',
        b'{"limit": "5"}',
        b'{"limit": 0}',
        b'{"limit": 1001}',
        b'{"limit": 1.5}',
        b'{"limit": true}',
        b'{"status": "dead"}',
        b'{"since": "yesterday"}',
        b'{"since": "2026-11-20T12:00:00"}',
        b'{"since": "2026-11-20T12:00:01Z", "until": "2026-11-20T12:00:00Z"}',
        b'{"min_seq": -1}',
        b'{"min_seq": 99999999999999999999999}',
        b'{"sub": "a", "sub": "b"}',
        b'{"unknown": {"a": 1, "a": 2}}',
        b"[" * 10_000,
        b'{"sub": "' + b"a" * 17_000 + b'"}',
    ],
)
async def test_malformed_bodies_are_refused(ask: LocalAudit, body: bytes) -> None:
    assert (await ask.raw("families", body))["error"] == "invalid_request"


async def test_unknown_parameters_are_ignored(ask: LocalAudit) -> None:
    """As the contract says; null counts as absent."""
    assert len((await ask("families", colour="red", cursor=None))["items"]) == 8


async def test_a_query_waits_for_its_min_seq(ask: LocalAudit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply includes that commit; after the timeout, or when the projector halts, it is refused."""
    made = LogMaker()
    made.log = list(LOG)
    made.open("late")
    waiting = asyncio.create_task(ask("families", limit=1, min_seq=len(made.log)))
    await asyncio.sleep(0)
    ask.apply(made.log)
    assert ids((await waiting)["items"]) == ["late"]
    monkeypatch.setattr(audit_queries, "MIN_SEQ_TIMEOUT_SECONDS", 0.01)
    assert (await ask("position", min_seq=len(made.log) + 1))["error"] == "temporarily_unavailable"
    monkeypatch.setattr(audit_queries, "MIN_SEQ_TIMEOUT_SECONDS", 60)
    waiting = asyncio.create_task(ask("families", min_seq=1000))
    await asyncio.sleep(0)
    ask.progress.give_up_waiting("halted at sequence 46: it is missing")
    assert "sequence 46" in (await waiting)["error_description"]
    assert (await ask("families", min_seq=1))["items"]
    position = await ask("position")
    assert (position["lag"], position["obstacle"]) == (
        len(LOG) + 5 - len(made.log),
        "halted at sequence 46: it is missing",
    )


async def test_replies_fit_into_a_message(ask: LocalAudit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer items, and a cursor for the rest."""
    monkeypatch.setattr(audit_queries, "MAX_REPLY_BYTES", 900)
    page = await ask("families")
    assert 1 <= len(page["items"]) < 8
    assert ids(await ask.pages("families", 1000)) == [f"f{number}" for number in range(7, -1, -1)]


async def test_a_reply_that_cannot_be_split_is_refused(ask: LocalAudit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large a message would get no reply; of a theft's reach fewer tokens are listed."""
    whole = await ask("blast_radius", family_id="f2")
    assert whole["alive_count"] == len(whole["alive"]) == 5
    fewer = await ask("blast_radius", family_id="f2", limit=2)
    assert fewer == whole | {"alive": whole["alive"][-2:]}
    monkeypatch.setattr(audit_queries, "MAX_REPLY_BYTES", len(msgspec.json.encode(fewer)))
    fitting = await ask("blast_radius", family_id="f2")
    assert fitting == whole | {"alive": fitting["alive"]}
    assert 1 <= len(fitting["alive"]) <= 2
    monkeypatch.setattr(audit_queries, "MAX_REPLY_BYTES", 400)
    refused = await ask("blast_radius", family_id="f2")
    assert refused == {"error": "server_error", "error_description": "the answer is too large for one message"}


async def test_failures_get_a_reply_too(ask: LocalAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log without a reply, a missing read model, a bug of ours."""

    async def missing() -> int:
        raise JetStreamMissing("gone")

    monkeypatch.setattr(ask.audit, "_log_end", missing)
    assert (await ask("position"))["error"] == "temporarily_unavailable"
    with monkeypatch.context() as patched:

        def broken(*_: object) -> None:
            raise sqlite3.OperationalError("secret detail")

        patched.setattr("projections.tables.families.find", broken)
        answer = await ask("family", family_id="f1")
        assert answer["error"] == "server_error"
        assert "secret" not in answer["error_description"]
    await ask.audit.close()
    assert (await ask("families"))["error"] == "temporarily_unavailable"
    ask.audit.open(tmp_path / "model")


FILTERS: dict[str, list[dict[str, Any]]] = {
    "families": [{"status": status} for status in ("live", "revoked", "denied", "expired")],
    "revocations": [{"reason": "operator"}],
    "incidents": [{"reason": "forgery"}],
}


async def test_every_list_runs_on_an_index(ask: LocalAudit, tmp_path: Path) -> None:
    """No combination of filters scans a table or sorts its result."""
    plans: list[str] = []
    connection = await ask.audit._connections.get()  # type: ignore[union-attr]
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    ask.audit._connections.put_nowait(connection)  # type: ignore[union-attr]
    for _ in range(audit_queries.LIMITS.at_once + audit_queries.OWN_LIMITS.at_once):
        for query in ("families", "revocations", "incidents"):
            for extra in ({}, {"sub": "user1"}, {"client_id": "web"}, {"sub": "user1", "client_id": "web"}):
                await ask(query, since="2026-01-01T00:00:00Z", **extra)
                for filter in FILTERS[query]:
                    await ask(query, **filter, **extra)
    with sqlite3.connect(tmp_path / "model") as other:
        for statement in statements:
            if statement.lstrip().startswith("SELECT"):
                plans += [row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {statement}")]
    other.close()
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN") or "TEMP B-TREE" in plan]
