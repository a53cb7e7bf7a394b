"""Which end came first: every query decides by the order of the log."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from events.aggregates.family_events import FamilyRevoked, ForgeryDetected, TokenRevoked
from events.aggregates.subject import ConsentWithdrawn
from tests.projections.logs import START, LogMaker, access_token, granted, refresh_token
from tests.projections.queries.local_audit import OpenAudit
from tests.projections.queries.test_token_validity import at, told


async def test_a_revoked_token_does_not_end_its_family(asking: OpenAudit) -> None:
    """CONTRACT §6: by sequence and by time; the family ends by its own revocation only."""
    made = LogMaker()
    made.open("f")
    made.rotate("f")
    made.commit("f", TokenRevoked("f-0", made.now + timedelta(minutes=4)))
    made.rotate("f")
    made.commit("f", FamilyRevoked("operator", "request"), actor="operator")
    ask = await asking(made.log)
    for seq, status, alive in [
        (2, "live", ["f-1", "f-0"]),
        (3, "live", ["f-1"]),
        (4, "live", ["f-2", "f-1"]),
        (5, "revoked", []),
    ]:
        for when in ({"seq": seq}, {"at": at(seq)}):
            state = await ask("as_of", family_id="f", **when)
            assert (state["status"], state["revoked_at"] is None) == (status, status == "live")
            assert [token["jti"] for token in state["access_tokens"]] == alive


async def test_a_theft_reaches_the_tokens_alive_at_its_time(asking: OpenAudit) -> None:
    """Not one revoked before; but one that the theft itself ended, and one of a client disabled later."""
    made = LogMaker()
    made.open("f")
    made.rotate("f")
    made.exchange("f", "held before", "orders")
    made.exchange("f", "held on", "billing")
    made.commit("f", TokenRevoked("f-0", made.now + timedelta(minutes=4)))
    made.disable_client("orders", "lost")
    made.reuse("f")
    made.disable_client("billing", "lost as well")
    ask = await asking(made.log)
    alive = (await ask("blast_radius", family_id="f"))["alive"]
    assert [token.get("jti", token["kind"]) for token in alive] == ["f-1", "held on", "refresh"]


async def test_a_revocation_after_expiry_changes_nothing(asking: OpenAudit) -> None:
    """The first end decides, and expiry is one."""
    made = LogMaker()
    refresh = refresh_token(made.now + timedelta(seconds=2))
    made.commit("f", granted(), refresh, access_token("j", START + timedelta(seconds=1)))
    made.configure_client("web")
    made.configure_client("web")
    made.commit("f", FamilyRevoked("operator", "request"), actor="operator")
    ask = await asking(made.log)
    for question in ({"jti": "j"}, {"family_id": "f", "generation": 0}):
        assert told(await ask("token", **question)) == (False, "expired", 1, "TokenIssued")
        assert told(await ask("token", **question, at=at(4))) == (False, "expired", 1, "TokenIssued")


@pytest.mark.parametrize("withdrawn_first", [False, True])
async def test_a_withdrawn_consent_enables_no_client(asking: OpenAudit, withdrawn_first: bool) -> None:
    """Of two commits about a client only the disabling concerns its tokens, and it lasts."""
    made = LogMaker()
    made.open("f")
    for withdraw in (withdrawn_first, not withdrawn_first):
        if withdraw:
            made.order("alice", ConsentWithdrawn("alice", "orders"))
        else:
            made.disable_client("orders", "lost")
    made.exchange("f", "meanwhile", "orders")  # by a replica that has not applied the disabling
    ask = await asking(made.log)
    disabled = 3 if withdrawn_first else 2
    assert told(await ask("token", jti="meanwhile", at=at(4))) == (False, "revoked", disabled, "ClientDisabled")
    assert [token["jti"] for token in (await ask("as_of", family_id="f", seq=4))["access_tokens"]] == ["f-0"]


@pytest.mark.parametrize("time", [b"9999-12-31T23:59:59-14:00", b"0001-01-01T00:00:00+14:00"])
async def test_a_time_out_of_range_in_utc_is_clamped(asking: OpenAudit, time: bytes) -> None:
    """A forged commit may hold one: it is read as the last or the first time there is, and queries still work."""
    made = LogMaker()
    made.open("f")
    made.open("g")
    forged = made.log[1].body.replace(b'"at":"2026-11-20T12:00:01Z"', b'"at":"' + time + b'"')
    made.log[1] = replace(made.log[1], body=forged)
    ask = await asking(made.log)
    assert {item["family_id"] for item in (await ask("families"))["items"]} == {"f", "g"}
    year = time[:4].decode()
    for question, parameters in (("family", {"family_id": "g"}), ("as_of", {"family_id": "g", "seq": 2})):
        assert (await ask(question, **parameters))["opened_at"].startswith(year)


async def test_a_forgery_after_the_end_is_an_incident(asking: OpenAudit) -> None:
    """CONTRACT §3.7: a key may be stolen, whatever became of the family. It is listed, and ends nothing more."""
    made = LogMaker()
    made.open("f")
    made.commit("f", FamilyRevoked("operator", "request"), actor="operator")
    made.commit("f", ForgeryDetected(9, 0, "web"))
    ask = await asking(made.log)
    (incident,) = (await ask("incidents"))["items"]
    assert (incident["seq"], incident["type"], incident["reason"]) == (3, "ForgeryDetected", "forgery")
    assert (incident["generation"], incident["current_generation"]) == (9, 0)
    assert (await ask("blast_radius", family_id="f"))["incident"] == "forgery"
    assert (await ask("activity"))["items"][0]["forged"] == 1
    family = await ask("family", family_id="f")
    assert (family["status"], family["reason"]) == ("revoked", "operator")
