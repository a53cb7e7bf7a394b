"""The audit agrees that an exchanged access token ends with the token it came of (RFC 8693)."""

import pytest

from tests.projections.logs import ONCE, chained_log, passed_on_log
from tests.projections.queries.local_audit import LocalAudit, OpenAudit


@pytest.fixture
async def chained(asking: OpenAudit) -> LocalAudit:
    """A token, one exchanged from it, and one exchanged from that."""
    return await asking(chained_log())


@pytest.fixture
async def passed_on(asking: OpenAudit) -> LocalAudit:
    """A token that two clients exchanged one after the other, the first of which is disabled."""
    return await asking(passed_on_log())


@pytest.mark.parametrize(
    ("jti", "verdict", "decided_by"),
    [
        ("f-0", "revoked", 6),
        (ONCE, "revoked", 6),
        ("twice", "revoked", 6),
        ("sibling", "valid", 5),
        ("f-1", "valid", 2),
    ],
)
async def test_tokens_exchanged_from_a_revoked_one_are_not_valid(
    chained: LocalAudit, jti: str, verdict: str, decided_by: int
) -> None:
    """RFC 7009 §2.1: the commit that revoked the original decides; they were valid until then."""
    after = await chained("token", jti=jti, at="2026-11-20T12:00:05.5Z")
    assert (after["verdict"], after["decided_by"]["seq"]) == (verdict, decided_by)
    assert (await chained("token", jti=jti, at="2026-11-20T12:00:04.5Z"))["valid"]


async def test_lists_of_live_tokens_leave_them_out(chained: LocalAudit) -> None:
    """Both the family at that time, and a theft's reach."""
    before = await chained("as_of", family_id="f", seq=5)
    assert {token["jti"] for token in before["access_tokens"]} == {"f-0", "f-1", ONCE, "twice", "sibling"}
    after = await chained("as_of", family_id="f", seq=6)
    assert {token["jti"] for token in after["access_tokens"]} == {"f-1", "sibling"}
    struck = await chained("blast_radius", family_id="f")
    assert {token["jti"] for token in struck["alive"] if "jti" in token} == {"f-1", "sibling"}


@pytest.mark.parametrize(
    ("jti", "verdict", "decided_by", "act"),
    [
        ("f-0", "valid", 1, None),
        (ONCE, "revoked", 4, ["orders"]),
        ("twice", "revoked", 4, ["billing", "orders"]),
        ("again", "valid", 6, ["orders"]),
        ("and again", "valid", 7, ["billing", "orders"]),
    ],
)
async def test_tokens_that_a_disabled_client_acted_for_are_not_valid(
    passed_on: LocalAudit, jti: str, verdict: str, decided_by: int, act: list[str] | None
) -> None:
    """CONTRACT §2: whoever holds them, for good; but not those after it is enabled again."""
    found = await passed_on("token", jti=jti, at="2026-11-20T12:00:06.5Z")
    assert (found["verdict"], found["decided_by"]["seq"], found.get("act")) == (verdict, decided_by, act)
    if decided_by == 4:
        assert found["decided_by"]["type"] == "ClientDisabled"
        assert (await passed_on("token", jti=jti, at="2026-11-20T12:00:02.5Z"))["valid"]


async def test_lists_of_live_tokens_leave_out_a_disabled_actors(passed_on: LocalAudit) -> None:
    """By sequence and by time, at that time and for a theft."""
    before = await passed_on("as_of", family_id="f", seq=3)
    assert {token["jti"] for token in before["access_tokens"]} == {"f-0", ONCE, "twice"}
    for moment in ({"seq": 7}, {"at": "2026-11-20T12:00:06.5Z"}):
        after = await passed_on("as_of", family_id="f", **moment)
        assert {token["jti"] for token in after["access_tokens"]} == {"f-0", "again", "and again"}
    struck = await passed_on("blast_radius", family_id="f")
    assert {token["jti"] for token in struck["alive"] if "jti" in token} == {"f-0", "again", "and again"}
