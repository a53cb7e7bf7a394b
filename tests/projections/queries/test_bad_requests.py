"""Parameters that every audit query must refuse: one table over all queries, so that a new one is covered too."""

import itertools
from typing import Any

import msgspec
import pytest

from projections.queries.server import QUERIES
from tests.projections.queries.local_audit import LOG, LocalAudit

GOOD: dict[str, dict[str, Any]] = {
    "family": {"family_id": "f2"},
    "families": {},
    "revocations": {},
    "incidents": {},
    "token": {"jti": "f2-1"},
    "as_of": {"seq": 20},
    "diff": {"from_seq": 0, "to_seq": 20},
    "subject": {"sub": "user1"},
    "blast_radius": {"family_id": "f2"},
    "activity": {},
    "search": {"text": "reuse"},
}
"""For each query parameters that it accepts, with items in the reply."""
OF_ITS_OWN: dict[str, tuple[str, ...]] = {
    "family": ("family_id",),
    "families": ("since", "status"),
    "revocations": ("since", "reason"),
    "incidents": ("since", "reason"),
    "token": ("token", "jti", "at"),
    "as_of": ("seq",),
    "diff": ("to_seq",),
    "blast_radius": ("family_id",),
    "activity": ("since",),
    "search": ("since",),
}
"""The parameters to try besides `min_seq`, and besides `limit` and `cursor` of paged queries."""
PAGED = set(GOOD) - {"token", "blast_radius"}
INJECTIONS = ("' OR '1'='1", "x' UNION SELECT text FROM names --", "%", "f2\0", "1; DROP TABLE families", '"*" OR NEAR')
SEQ_BEYOND, SEQ_HUGE = len(LOG) + 1, 10**30
FUTURE = "2036-01-01T00:00:00Z"

BAD: dict[str, list[dict[str, Any]]] = {
    "family_id": [{"family_id": bad} for bad in ("nobody", "", 5, None, ["f2"], *INJECTIONS)],
    "token": [{"jti": None, "token": bad} for bad in ("", "hrt_", "hrt_garbage", "a.b.c", "e30.e30.e30", *INJECTIONS)],
    "jti": [{"jti": bad} for bad in ("nobody-1", "", 5, *INJECTIONS)],
    "at": [{"at": bad} for bad in (FUTURE, "now", 5, "2026-11-20T12:00:10")],
    "since": [{"since": "2026-11-20T12:00:01Z", "until": "2026-11-20T12:00:00Z"}, {"since": "' OR 1=1"}, {"until": 5}],
    "seq": [{"seq": bad} for bad in (0, -1, SEQ_BEYOND, SEQ_HUGE, "20", 1.5, "1 OR 1=1")],
    "to_seq": [{"to_seq": bad} for bad in (-1, SEQ_BEYOND, SEQ_HUGE, "20", None)] + [{"from_seq": 21}],
    "limit": [{"limit": bad} for bad in (0, -1, 1001, 10**9, SEQ_HUGE, "10", 1.5, True)],
    "cursor": [{"cursor": bad} for bad in ("", "AAAA", "ü", 5, "A" * 10_000, *INJECTIONS)],
    "min_seq": [{"min_seq": bad} for bad in (-1, SEQ_HUGE, "1", 1.5, True)],
    "reason": [{"reason": bad} for bad in ("boredom", 5, *INJECTIONS)],
    "status": [{"status": bad} for bad in ("dead", 5, *INJECTIONS)],
}


def test_every_query_is_in_the_table() -> None:
    """Only `what_if`, which reads the log, has its own tests."""
    assert set(QUERIES) <= set(GOOD)


@pytest.mark.parametrize("query", GOOD)
async def test_bad_parameters_are_refused(ask: LocalAudit, query: str) -> None:
    """Each one within otherwise good parameters: one clear line that repeats nothing of the request."""
    good = GOOD[query]
    assert "error" not in await ask(query, **good)
    pages = ("limit", "cursor") if query in PAGED else ()
    for parameter in (*OF_ITS_OWN.get(query, ()), *pages, "min_seq"):
        for bad in BAD[parameter]:
            answer = await ask(query, **good | bad)
            assert answer.get("error") == "invalid_request", (query, bad, answer)
            assert not [text for text in INJECTIONS if text in answer["error_description"]]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        *itertools.product(("families", "revocations", "incidents"), ("sub", "client_id")),
        ("subject", "sub"),
        ("as_of", "sub"),
    ],
)
@pytest.mark.parametrize("injection", INJECTIONS)
async def test_sql_in_a_parameter_is_only_text(ask: LocalAudit, query: str, parameter: str, injection: str) -> None:
    """It finds nothing, and everything is still there."""
    before = await ask("families")
    assert (await ask(query, **GOOD[query] | {parameter: injection}))["items"] == []
    assert await ask("families") == before


@pytest.mark.parametrize("query", GOOD)
async def test_another_tenant_receives_nothing(ask: LocalAudit, query: str) -> None:
    """Neither a tenant with families of its own, nor an unknown one, sees anything of `acme`."""
    for tenant in ("globex", "nobody"):
        told = msgspec.json.encode(await ask(query, tenant, **GOOD[query]))
        assert not any(of_acme in told for of_acme in (b'"f2"', b"f2-", b"user0", b"user2", b'"app"', b"Laptop"))


@pytest.mark.parametrize("query", sorted(PAGED))
async def test_a_cursor_belongs_to_one_query(ask: LocalAudit, query: str) -> None:
    """It is refused with another query, filter or tenant, or with one character altered."""
    if query == "activity":
        cursor = "AAAAAAAAAAAAAAAAMTc2MzY0MDAwMDAwMDAwMA"  # the log has one hour only
    else:
        cursor = (await ask(query, **GOOD[query], limit=1))["cursor"]
        assert cursor is not None
        assert "error" not in await ask(query, **GOOD[query], cursor=cursor)
    for other in PAGED - {query}:
        assert (await ask(other, **GOOD[other], cursor=cursor))["error"] == "invalid_request"
    assert "error" in await ask(query, "globex", **GOOD[query], cursor=cursor)
    for other_filter in ({"status": "live"}, {"sub": "user1"}) if query == "families" else ():
        assert (await ask(query, **other_filter, cursor=cursor))["error"] == "invalid_request"
    assert (await ask(query, **GOOD[query], cursor=cursor + "="))["error"] == "invalid_request"
    for place in range(0, len(cursor), 5):
        altered = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        assert (await ask(query, **GOOD[query], cursor=altered))["error"] == "invalid_request"
