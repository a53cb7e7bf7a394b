"""The queries: past states, differences, everything of a person, a theft's reach, hourly counts, search."""

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from events.aggregates.family import DEVICE_GRANT
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    Credential,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyRevoked,
    TokenRedeemed,
    TokenReuseDetected,
)
from projections.decoded_commit import microseconds
from projections.queries import diff, family_state
from projections.tables import history
from tests.projections.logs import AUDIENCE, START, LogMaker, access_token, granted, refresh_token
from tests.projections.queries.local_audit import LOG, LocalAudit, OpenAudit
from tests.projections.queries.test_token_validity import at, life


def ids(answer: dict[str, Any]) -> list[str]:
    """The family ids of the items."""
    return [item["family_id"] for item in answer["items"]]


async def test_a_family_as_it_was(ask: LocalAudit) -> None:
    """After each commit, by sequence, and by time just before the next one."""
    opened, first, second, third, theft, again = await life(ask, "f2")
    for seq, until, status, generation in [
        (opened, first, "live", 0),
        (first, second, "live", 1),
        (second, third, "live", 2),
        (third, theft, "live", 3),
        (theft, again, "revoked", 3),
    ]:
        by_seq = await ask("as_of", family_id="f2", seq=seq)
        by_time = await ask("as_of", family_id="f2", at=at(until, -0.5))
        assert (by_seq["status"], by_seq["generation"], by_seq["last_seq"]) == (status, generation, seq)
        assert by_time == by_seq
    assert by_seq["reason"] == "reuse_detected"
    now = await ask("as_of", family_id="f2")
    assert (now["status"], now["last_seq"], now["access_tokens"]) == ("revoked", again, [])
    live = await ask("as_of", family_id="f2", seq=second)
    assert [token["jti"] for token in live["access_tokens"]] == ["f2-2", "f2-1", "f2-0"]
    assert live["revoked_at"] is None


async def test_a_token_revoked_alone_is_no_longer_alive(ask: LocalAudit) -> None:
    """From that commit on, by sequence and by time; the family and its other tokens stay."""
    *_, issued, revoked = await life(ask, "f3")
    moments: list[tuple[dict[str, Any], list[str]]] = [
        ({"seq": revoked - 1}, ["f3-3", "f3-2", "f3-1", "f3-0"]),
        ({"at": at(revoked, -0.5)}, ["f3-3", "f3-2", "f3-1", "f3-0"]),
        ({"seq": revoked}, ["f3-2", "f3-1", "f3-0"]),
        ({"at": at(revoked)}, ["f3-2", "f3-1", "f3-0"]),
        ({}, ["f3-2", "f3-1", "f3-0"]),
    ]
    for when, alive in moments:
        state = await ask("as_of", family_id="f3", **when)
        assert (state["status"], [token["jti"] for token in state["access_tokens"]]) == ("live", alive)
    assert issued < revoked


@pytest.fixture
def long_families() -> LogMaker:
    """Families with many exchanges: after two rotations, after a code, after a token of an hour; and a denied one."""
    made = LogMaker()
    waiting = DeviceAuthorizationStarted("tv", "read", AUDIENCE, "seed", made.now + timedelta(hours=1))
    made.commit("denied", waiting)
    made.commit("denied", DeviceAuthorizationDenied("bob"))
    made.open("rotated")
    made.rotate("rotated")
    made.rotate("rotated")
    made.commit(
        "code", granted("authorization_code"), AuthorizationCodeIssued(made.now + timedelta(minutes=10), "challenge")
    )
    made.commit("outlasting", granted(), access_token("an hour", made.now + timedelta(hours=1)))
    for family_id in ("rotated", "code", "outlasting"):
        for number in range(family_state.MAX_RECENT + 1):
            made.exchange(family_id, f"x{number}", "orders")
    return made


@pytest.mark.parametrize("minutes", [6, 8, 11, 30, 61, 30_000])
async def test_as_of_now_equals_the_family(asking: OpenAudit, long_families: LogMaker, minutes: int) -> None:
    """However many commits lie after its refresh token, code or longest access token."""
    asked = await asking(long_families.log)
    asked.now = microseconds(START + timedelta(minutes=minutes))
    for family_id in ("denied", "rotated", "code", "outlasting"):
        state, family = await asked("as_of", family_id=family_id), await asked("family", family_id=family_id)
        assert {name: state[name] for name in state if name in family} == {
            name: family[name] for name in family if name in state
        }
        assert "generation" in state
    change = (await asked("diff", from_seq=6, to_seq=len(long_families.log)))["items"]
    assert {item["family_id"]: item["after"]["generation"] for item in change}["rotated"] == 2


async def test_a_past_state_behind_many_commits(asking: OpenAudit, long_families: LogMaker) -> None:
    """The refresh token of that time is found, also for a theft's reach, whatever was issued after it."""
    long_families.reuse("rotated")
    asked = await asking(long_families.log)
    opened, first, second, *_ = await life(asked, "rotated")
    last = len(long_families.log) - 1
    states = [await asked("as_of", family_id="rotated", seq=seq) for seq in (opened, first, second, last)]
    assert [(state["status"], state["generation"]) for state in states] == [
        ("live", 0),
        ("live", 1),
        ("live", 2),
        ("live", 2),
    ]
    assert states[3]["expires_at"] == states[2]["expires_at"]
    early = await asked("as_of", family_id="outlasting", at=at(last))
    assert datetime.fromisoformat(early["expires_at"]) == START + timedelta(hours=1, seconds=6)
    for generation, seq in enumerate((opened, first, second)):
        found = await asked("token", family_id="rotated", generation=generation)
        assert datetime.fromisoformat(found["issued_at"]) == datetime.fromisoformat(at(seq))
    alive = (await asked("blast_radius", family_id="rotated"))["alive"]
    assert [token["generation"] for token in alive if token["kind"] == "refresh"] == [2]


@pytest.mark.parametrize(
    ("seq", "alive"),
    [
        (3, ["of another", "before", "f-0"]),
        (4, ["of another", "f-0"]),
        (5, ["of another", "f-0"]),
        (6, ["of another", "f-0"]),
        (9, ["f-1", "after", "of another", "f-0"]),
    ],
)
async def test_a_disabled_clients_tokens_are_not_alive(ask_swapped: LocalAudit, seq: int, alive: list[str]) -> None:
    """By sequence and by time, also after the client is enabled again."""
    for when in ({"seq": seq}, {"at": at(seq)}):
        state = await ask_swapped("as_of", family_id="f", **when)
        assert [token["jti"] for token in state["access_tokens"]] == alive


async def test_a_disabled_clients_tokens_are_out_of_a_thefts_reach(ask_swapped: LocalAudit) -> None:
    """Tokens of other clients are not."""
    alive = (await ask_swapped("blast_radius", family_id="f"))["alive"]
    assert [token.get("jti", token["kind"]) for token in alive] == ["f-0", "of another", "after", "f-1", "refresh"]


async def test_a_person_and_a_tenant_as_they_were(ask: LocalAudit) -> None:
    """Only families that had begun by then; none of another tenant."""
    assert ids(await ask("as_of", sub="user1", seq=5)) == ["f1"]
    assert ids(await ask("as_of", at=at(4))) == ["f2", "f1", "f0"]
    assert ids(await ask("as_of", "globex", seq=len(LOG))) == ["f1"]
    first = await ask("as_of", seq=9, limit=5)
    rest = await ask("as_of", seq=9, limit=5, cursor=first["cursor"])
    assert ids(first) + ids(rest) == [f"f{number}" for number in range(7, -1, -1)]
    assert {item["status"] for item in first["items"]} == {"live"}
    assert "error" in await ask("as_of", seq=8, cursor=first["cursor"])
    by_time = await ask("as_of", at="2026-11-20T12:00:20Z", limit=5)
    same_time = await ask("as_of", at="2026-11-20T13:00:20+01:00", cursor=by_time["cursor"])
    assert ids(by_time) + ids(same_time) == [f"f{number}" for number in range(7, -1, -1)]
    waiting = {item["family_id"]: item["sub"] for item in (await ask("as_of", "initech", seq=45))["items"]}
    assert waiting == {"d1": "ann", "d2": ""}


async def test_what_changed_in_a_range(ask: LocalAudit) -> None:
    """Each family once, with all its changes; nothing in an empty range."""
    everything = (await ask("diff", from_seq=0, to_seq=len(LOG)))["items"]
    assert sorted(item["family_id"] for item in everything) == [f"f{number}" for number in range(8)]
    assert all(item["before"] is None and "begun" in item["changes"] for item in everything)
    theft = (await life(ask, "f2"))[4]
    (change,) = (await ask("diff", from_seq=theft - 1, to_seq=theft))["items"]
    assert (change["family_id"], change["seq"], change["changes"]) == ("f2", theft, ["revoked"])
    assert (change["before"]["status"], change["after"]["status"]) == ("live", "revoked")
    assert change["after"]["reason"] == "reuse_detected"
    rotated = (await ask("diff", from_seq=10, to_seq=18))["items"]
    assert {tuple(item["changes"]) for item in rotated} == {("rotated",)}
    assert (await ask("diff", from_seq=theft, to_seq=theft))["items"] == []
    assert ids(await ask("diff", "globex", from_seq=0, to_seq=len(LOG))) == ["f1"]


async def test_changes_that_keep_the_state_are_named(ask: LocalAudit) -> None:
    """A token revoked alone, and a presentation after the end."""
    revoked, again = (await life(ask, "f3"))[-1], (await life(ask, "f2"))[-1]
    (change,) = (await ask("diff", from_seq=revoked - 1, to_seq=revoked))["items"]
    assert (change["family_id"], change["changes"]) == ("f3", ["token revoked"])
    (change,) = (await ask("diff", from_seq=again - 1, to_seq=again))["items"]
    assert (change["family_id"], change["changes"]) == ("f2", ["TokenReuseDetected"])
    everything = {item["family_id"]: item["changes"] for item in (await ask("diff", from_seq=20, to_seq=40))["items"]}
    assert everything["f3"] == ["rotated", "token revoked"]


async def test_what_changed_in_a_family_with_many_commits(ask: LocalAudit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last commits are read, and as many before the range as within it."""
    first, *_, theft, again = await life(ask, "f2")
    whole = [await ask("diff", from_seq=seq, to_seq=again) for seq in (first, theft - 1, theft)]
    monkeypatch.setattr(family_state, "MAX_RECENT", 4)
    assert [await ask("diff", from_seq=seq, to_seq=again) for seq in (first, theft - 1, theft)] == whole


@pytest.mark.parametrize(("limit", "looked_through"), [(1, 2000), (3, 2), (1000, 1)])
async def test_what_changed_comes_in_pages(
    ask: LocalAudit, monkeypatch: pytest.MonkeyPatch, limit: int, looked_through: int
) -> None:
    """By items and by commits read: nothing twice, nothing missing."""
    whole = await ask("diff", from_seq=3, to_seq=len(LOG) - 1)
    monkeypatch.setattr(diff, "MAX_COMMITS_READ", looked_through)
    assert await ask.pages("diff", limit, from_seq=3, to_seq=len(LOG) - 1) == whole["items"]


async def test_everything_of_a_person(ask: LocalAudit) -> None:
    """Families, tokens with times, scopes and clients, and cut-offs; in pages of any size."""
    answer = await ask("subject", sub="user0")
    assert {item["family_id"] for item in answer["items"]} == {"f0", "f3", "f6"}
    assert [cut["type"] for cut in answer["cut_offs"]] == ["SubjectUnblocked", "SubjectBlocked"]
    assert answer["cut_offs"][1]["reason"] == "Laptop lost at the Café"
    assert {item["jti"] for item in answer["items"] if item["family_id"] == "f3" and "jti" in item} == {
        f"f3-{generation}" for generation in range(4)
    }
    assert await ask.pages("subject", 2, sub="user0") == answer["items"]
    assert (await ask("subject", "globex", sub="user0"))["items"] == []
    assert (await ask("subject", sub="x' OR '1'='1"))["items"] == []


async def test_a_thefts_reach(ask: LocalAudit) -> None:
    """The tokens alive at the theft, since when it was possible, and who presented what."""
    opened, first, second, third, theft, again = await life(ask, "f2")
    answer = await ask("blast_radius", family_id="f2")
    assert (answer["generation"], answer["current_generation"], answer["type"]) == (0, 3, "TokenReuseDetected")
    assert (answer["exposed_seconds"], answer["seconds_to_end"]) == (theft - opened, 0)
    assert [token.get("jti", token.get("generation")) for token in answer["alive"]] == [
        "f2-0",
        "f2-1",
        "f2-2",
        "f2-3",
        3,
    ]
    assert answer["alive"][0]["seconds_left"] == 300 - (theft - opened)
    assert (answer["scope"], answer["audience"]) == ("offline_access read", ["https://api.example"])
    assert [(shown["seq"], shown["generation"], shown["accepted"]) for shown in answer["presentations"]] == [
        (first, 0, True),
        (second, 1, True),
        (third, 2, True),
        (theft, 0, False),
        (again, 1, False),
    ]
    forged = await ask("blast_radius", family_id="f4")
    assert (forged["type"], forged["copied_after"], forged["exposed_seconds"]) == ("ForgeryDetected", None, None)
    code = await ask("blast_radius", "initech", family_id="c1")
    assert code["alive"] == []


async def test_a_late_duplicate_is_an_incident_and_no_theft(asking: OpenAudit) -> None:
    """It is listed and found by its words; the family lives, and the reach is that of the theft after it."""
    made = LogMaker()
    made.open("f")
    made.rotate("f")
    made.rotate("f")
    made.late("f")
    asked = await asking(made.log)
    (late,) = (await asked("incidents"))["items"]
    assert (late["seq"], late["type"], late["reason"]) == (4, "LateDuplicateRefused", "late_duplicate")
    assert (late["generation"], late["current_generation"], late["presented_by"]) == (0, 2, "web")
    for query, parameters in (("incidents", {"reason": "late_duplicate"}), ("search", {"text": "late duplicate"})):
        assert [item["seq"] for item in (await asked(query, **parameters))["items"]] == [4]
    assert (await asked("incidents", reason="reuse_detected"))["items"] == []
    assert (await asked("revocations", reason="late_duplicate"))["error"] == "invalid_request"
    assert (await asked("revocations"))["items"] == []
    family = await asked("family", family_id="f")
    assert (family["status"], family["generation"]) == ("live", 2)
    assert (family["timeline"][-1]["types"], family["timeline"][-1]["generation"]) == (["LateDuplicateRefused"], 0)
    assert (await asked("token", family_id="f", generation=2))["valid"]
    assert (await asked("diff", from_seq=3, to_seq=4))["items"][0]["changes"] == ["LateDuplicateRefused"]
    assert "no incident" in (await asked("blast_radius", family_id="f"))["error_description"]
    made.rotate("f")
    made.reuse("f")
    asked.apply(made.log)
    reach = await asked("blast_radius", family_id="f")
    assert (reach["seq"], reach["incident"]) == (6, "reuse_detected")
    shown = [(shown["seq"], shown["generation"], shown["accepted"]) for shown in reach["presentations"]]
    assert shown == [(2, 0, True), (3, 1, True), (4, 0, False), (5, 2, True), (6, 0, False)]


@pytest.mark.parametrize("credential", ["authorization_code", "device_code"])
async def test_the_reach_of_a_stolen_code(asking: OpenAudit, credential: Credential) -> None:
    """It was copied after it was issued, and its redemption is where the family branched."""
    made = LogMaker()
    grant = DEVICE_GRANT if credential == "device_code" else credential
    begun = granted(grant, client_id="tv", sub="ann")
    end = made.now + timedelta(minutes=1)
    if credential == "device_code":
        made.commit("c1", DeviceAuthorizationStarted("tv", "read", AUDIENCE, "seed", end))
        made.commit("c1", begun)
    else:
        made.commit("c1", begun, AuthorizationCodeIssued(end, "challenge"))
        made.configure_client("web")
    made.commit("c1", TokenRedeemed(0, credential), refresh_token(end), access_token("j", end))
    made.rotate("c1")
    shown = TokenReuseDetected(0, 1, "tv", credential)
    made.commit("c1", shown, FamilyRevoked("code_reuse", "request"))
    asked = await asking(made.log)
    answer = await asked("blast_radius", family_id="c1")
    moments = [answer[name] for name in ("copied_after", "branched_at", "struck_at")]
    assert [datetime.fromisoformat(moment) for moment in moments] == [START + timedelta(seconds=s) for s in (0, 2, 4)]
    assert (answer["incident"], answer["exposed_seconds"], answer["seconds_to_end"]) == ("code_reuse", 4, 0)
    told = ("seq", "credential", "generation", "accepted")
    assert [tuple(one[name] for name in told) for one in answer["presentations"]] == [
        (3, credential, None, True),
        (4, "refresh_token", 0, True),
        (5, credential, None, False),
    ]


async def test_counts_by_the_hour(ask: LocalAudit) -> None:
    """The whole log lies within one hour; each tenant sees its own counts."""
    (hour,) = (await ask("activity"))["items"]
    assert hour["hour"] == "2026-11-20T12:00:00Z"
    counts = {name: hour[name] for name in ("begun", "issued", "refreshed", "revoked", "tokens_revoked", "reuse")}
    refreshed = 8 * 3 + 1
    assert counts == {
        "begun": 8,
        "issued": 8 + refreshed,
        "refreshed": refreshed,
        "revoked": 3,
        "tokens_revoked": 1,
        "reuse": 2,
    }
    assert hour["forged"] == 1
    assert (await ask("activity", "globex"))["items"][0]["issued"] == 2
    for since, hours in {"12:00:00": 1, "12:00:01": 1, "12:59:59.999999": 1, "13:00:00": 0}.items():
        assert len((await ask("activity", since=f"2026-11-20T{since}Z"))["items"]) == hours


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("laptop", ["ClientDisabled", "SubjectBlocked"]),
        ("LAPTOP café", ["SubjectBlocked"]),
        ("operator lost laptop", ["ClientDisabled", "SubjectBlocked"]),
        ("blocked", ["SubjectBlocked"]),
        ("reuse", ["TokenReuseDetected", "TokenReuseDetected"]),
        ("reuse detected generation 0", ["TokenReuseDetected"]),
        ("nothing of the kind", []),
        ("laptop\" OR word NEAR '", []),
    ],
)
async def test_words_are_found(ask: LocalAudit, text: str, expected: list[str]) -> None:
    """In reasons, causes and actors, in any order and case, newest first; no text is a syntax error."""
    assert [item["type"] for item in (await ask("search", text=text))["items"]] == expected
    assert [item["type"] for item in await ask.pages("search", 1, text=text)] == expected
    assert (await ask("search", "globex", text="laptop"))["items"] == []


async def test_a_time_before_the_first_family(ask: LocalAudit) -> None:
    """The refusal names the first family: the read model knows nothing of the tenant's settings before it."""
    first = await ask("as_of", at="2026-11-20T12:00:00Z")  # when its client was configured
    assert first["error_description"] == "the first family of this tenant began at 2026-11-20T12:00:01+00:00"


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("as_of", {"family_id": "nobody"}),
        ("as_of", {"family_id": "f2", "seq": 1}),
        ("as_of", {"family_id": "f2", "sub": "user2"}),
        ("as_of", {"seq": 0}),
        ("as_of", {"seq": 10**6}),
        ("as_of", {"seq": 5, "at": "2026-11-20T12:00:05Z"}),
        ("as_of", {"at": "2026-11-20T11:00:00Z"}),
        ("as_of", {"at": "2036-11-20T11:00:00Z"}),
        ("as_of", {"cursor": "AAAA"}),
        ("diff", {}),
        ("diff", {"from_seq": 5, "to_seq": 4}),
        ("diff", {"from_seq": 5, "to_seq": 10**6}),
        ("diff", {"from_seq": -1, "to_seq": 4}),
        ("diff", {"from_seq": 1, "to_seq": 4, "limit": 0}),
        ("diff", {"from_seq": 1, "to_seq": 4, "limit": 10**9}),
        ("diff", {"from_seq": 1, "to_seq": 4, "cursor": "x"}),
        ("subject", {}),
        ("subject", {"sub": "user0", "cursor": ""}),
        ("blast_radius", {"family_id": "nobody"}),
        ("blast_radius", {"family_id": "f0"}),
        ("activity", {"since": "2026-11-20T12:00:01Z", "until": "2026-11-20T12:00:00Z"}),
        ("activity", {"sub": 5, "cursor": "e30"}),
        ("search", {}),
        ("search", {"text": ""}),
        ("search", {"text": "'; --"}),
        ("search", {"text": "a" * 257}),
        ("search", {"text": "laptop", "cursor": "e30"}),
    ],
)
async def test_bad_parameters_are_refused(ask: LocalAudit, query: str, parameters: dict[str, Any]) -> None:
    assert (await ask(query, **parameters))["error"] == "invalid_request"


async def test_every_query_runs_on_an_index(ask: LocalAudit, tmp_path: Path) -> None:
    """None scans a table that grows with the log."""
    statements: list[str] = []
    connections = ask.audit._connections
    assert connections is not None
    for _ in range(connections.qsize()):
        connection = connections.get_nowait()
        connection.set_trace_callback(statements.append)
        connections.put_nowait(connection)
    questions: list[tuple[str, dict[str, Any]]] = [
        ("family", {"family_id": "f2"}),
        ("token", {"jti": "f2-1"}),
        ("token", {"family_id": "f2", "generation": 1}),
        ("as_of", {"sub": "user2"}),
        ("as_of", {"seq": 20}),
        ("as_of", {"sub": "user2", "seq": 20}),
        ("as_of", {"family_id": "f2", "at": at(10)}),
        ("diff", {"from_seq": 1, "to_seq": 30}),
        ("subject", {"sub": "user0"}),
        ("blast_radius", {"family_id": "f2"}),
        ("activity", {"since": "2026-11-20T12:00:00Z"}),
        ("search", {"text": "laptop lost"}),
    ]
    for query, parameters in questions:
        assert "error" not in await ask(query, **parameters)
    with sqlite3.connect(tmp_path / "model") as other:
        plans = {
            row[3]
            for statement in statements
            if statement.lstrip().startswith("SELECT") and "AS e WHERE" not in statement  # sorts one page's commits
            for row in other.execute(f"EXPLAIN QUERY PLAN {statement}")
        }
    other.close()
    small = "applied", "(subquery", "CONSTANT ROW", "wanted VIRTUAL TABLE"
    assert not [plan for plan in plans if plan.startswith("SCAN") and not any(name in plan for name in small)]
    assert not [plan for plan in plans if "TEMP B-TREE" in plan]


def test_a_jti_is_searched_in_the_index(ask: LocalAudit, tmp_path: Path) -> None:
    """Not by reading the whole of it, as with a condition that SQLite simplifies."""
    with sqlite3.connect(tmp_path / "model") as db:
        query = f"EXPLAIN QUERY PLAN {history.SELECT} WHERE {history.BY_JTI}"
        plan = [row[3] for row in db.execute(query, {"wanted": "f2-1"})]
    db.close()
    assert "SEARCH h USING INDEX history_by_jti (<expr>=?)" in plan
