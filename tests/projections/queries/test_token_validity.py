"""Whether a token was valid at a time, and which commit decided it: before and after every event."""

from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from events.aggregates.family_events import AuthorizationCodeIssued, FamilyRevoked, TokenRedeemed
from events.token_format import TokenKind
from projections.queries.token_parser import NoToken, claim_of
from service.keys.keyring import Keyring
from service.keys.mac_tokens import MacTokens, new_id
from tests.projections.logs import AUDIENCE, START, LogMaker, access_token, granted
from tests.projections.queries.local_audit import LocalAudit, OpenAudit


def jwt(**claims: Any) -> str:
    """An unsigned JWT: the auditor does not check signatures."""
    return f"e30.{urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b'=').decode()}.c2ln"


ID_CLAIMS = {"iss": "https://acme.example", "sub": "ann", "aud": "web", "exp": 1_900_000_000, "iat": 1_800_000_000}


def at(seq: int, seconds: float = 0) -> str:
    """The time of a commit of a made log, plus some seconds."""
    return (START + timedelta(seconds=seq - 1 + seconds)).isoformat()


async def life(ask: LocalAudit, family_id: str) -> list[int]:
    """The sequences of a family's commits."""
    return [entry["seq"] for entry in (await ask("family", family_id=family_id))["timeline"]]


def told(answer: dict[str, Any]) -> tuple[bool, str, int, str]:
    """The reply in brief: valid, verdict, and the deciding commit."""
    return answer["valid"], answer["verdict"], answer["decided_by"]["seq"], answer["decided_by"]["type"]


async def test_an_access_token_before_and_after_each_commit(ask: LocalAudit) -> None:
    """Not issued, valid, revoked with its family, or expired before that."""
    opened, first, _, _, theft, _ = await life(ask, "f2")
    for when, expected in [
        ("2026-11-20T11:59:59Z", (False, "not_issued", first, "TokenIssued")),  # before the tenant's first commit
        (at(first, -0.000001), (False, "not_issued", first, "TokenIssued")),
        (at(first), (True, "valid", first, "TokenIssued")),
        (at(theft, -0.000001), (True, "valid", first, "TokenIssued")),
        (at(theft), (False, "revoked", theft, "FamilyRevoked")),
        (None, (False, "revoked", theft, "FamilyRevoked")),
    ]:
        answer = await ask("token", jti="f2-1", at=when)
        assert told(answer) == expected
    assert (answer["family_id"], answer["sub"], answer["client_id"]) == ("f2", "user2", "app")
    assert (answer["scope"], answer["audience"], answer["kind"]) == ("read", list(AUDIENCE), "access")
    assert datetime.fromisoformat(answer["decided_by"]["at"]) == datetime.fromisoformat(at(theft))
    assert opened < first


async def test_one_revoked_access_token(ask: LocalAudit) -> None:
    """The commit that names its jti decides, for that jti only."""
    *_, issued, revoked = await life(ask, "f3")
    assert told(await ask("token", jti="f3-3")) == (False, "revoked", revoked, "TokenRevoked")
    assert told(await ask("token", jti="f3-3", at=at(revoked, -0.5))) == (True, "valid", issued, "TokenIssued")
    assert (await ask("token", jti="f3-2"))["valid"] is True


@pytest.mark.parametrize(
    ("jti", "seq", "expected"),
    [
        ("before", 2, (True, "valid", 2, "TokenIssued")),
        ("before", 3, (True, "valid", 2, "TokenIssued")),
        ("before", 4, (False, "revoked", 4, "ClientDisabled")),
        ("before", 9, (False, "revoked", 4, "ClientDisabled")),
        ("meanwhile", 4, (False, "not_issued", 5, "TokenIssued")),
        ("meanwhile", 5, (False, "revoked", 4, "ClientDisabled")),
        ("meanwhile", 9, (False, "revoked", 4, "ClientDisabled")),
        ("after", 9, (True, "valid", 7, "TokenIssued")),
        ("after", 10, (False, "revoked", 10, "FamilyRevoked")),
        ("of another", 9, (True, "valid", 3, "TokenIssued")),
        ("f-0", 9, (True, "valid", 1, "TokenIssued")),
    ],
)
async def test_a_disabled_clients_tokens_are_not_valid(
    ask_swapped: LocalAudit, jti: str, seq: int, expected: tuple[bool, str, int, str]
) -> None:
    """For good, in a family that another client began; the family's other tokens stay valid."""
    assert told(await ask_swapped("token", jti=jti, at=at(seq))) == expected


async def test_a_refresh_token_is_valid_until_it_is_rotated(ask: LocalAudit) -> None:
    """The first end decides, not a later one."""
    opened, first, second, _, theft, _ = await life(ask, "f2")
    assert told(await ask("token", family_id="f2", generation=0)) == (False, "rotated", first, "TokenRotated")
    assert told(await ask("token", family_id="f2", generation=0, at=at(opened))) == (
        True,
        "valid",
        opened,
        "TokenIssued",
    )
    assert told(await ask("token", family_id="f2", generation=1, at=at(first))) == (
        True,
        "valid",
        first,
        "TokenRotated",
    )
    assert told(await ask("token", family_id="f2", generation=1, at=at(second)))[1] == "rotated"
    assert told(await ask("token", family_id="f2", generation=3)) == (False, "revoked", theft, "FamilyRevoked")


async def test_a_token_expires_by_itself(ask: LocalAudit) -> None:
    """Then the commit that issued it decides."""
    ask.now = 1_900_000_000_000_000
    last = (await life(ask, "f7"))[-1]
    assert told(await ask("token", jti="f7-3")) == (False, "expired", last, "TokenIssued")
    assert told(await ask("token", family_id="f7", generation=3)) == (False, "expired", last, "TokenRotated")
    assert (await ask("token", jti="f7-3", at=at(last, 299.999999)))["valid"]
    assert not (await ask("token", jti="f7-3", at=at(last, 300)))["valid"]


@pytest.mark.parametrize(
    ("tenant", "parameters", "why"),
    [
        ("acme", {"jti": "nothing"}, "no such token"),
        ("acme", {"jti": "x' OR 1=1 --"}, "no such token"),
        ("acme", {"jti": ""}, "no such token"),
        ("globex", {"jti": "f2-1"}, "no such token"),
        ("globex", {"family_id": "f2", "generation": 0}, "no such token"),
        ("acme", {"family_id": "f2", "generation": 4}, "no such token"),
        ("acme", {"family_id": "f2", "generation": -1}, "generation"),
        ("acme", {"token": "garbage-of-a-secret"}, "that is no token"),
        ("acme", {"token": "a.b.c"}, "that is no token"),
        ("acme", {"token": "hrt_" + "0" * 69}, "no such token"),
        ("acme", {"token": "hrt_" + "0" * 68}, "that is no token"),
        ("acme", {"token": "hat_" + "z" * 74}, "that is no token"),
        ("acme", {"token": jwt(**ID_CLAIMS, sid="secret")}, "that is an ID token"),
        ("acme", {"token": jwt(**ID_CLAIMS, jti=5)}, "that is no token"),
        ("acme", {"token": jwt(**ID_CLAIMS | {"aud": 5})}, "that is no token"),
        ("acme", {}, "ask by"),
        ("acme", {"family_id": "f2"}, "ask by"),
        ("acme", {"jti": "f2-1", "token": "x"}, "ask by"),
        ("acme", {"jti": "f2-1", "family_id": "f2", "generation": 1}, "ask by"),
        ("acme", {"jti": "f2-1", "at": "2027-01-01T00:00:00Z"}, "in the future"),
    ],
)
async def test_bad_parameters_are_refused(ask: LocalAudit, tenant: str, parameters: dict[str, Any], why: str) -> None:
    """In clear words that repeat nothing of the request."""
    answer = await ask("token", tenant, **parameters)
    assert answer["error"] == "invalid_request"
    assert why in answer["error_description"]
    assert "secret" not in str(answer)


async def test_the_token_itself_may_be_sent(ask: LocalAudit, asking: OpenAudit) -> None:
    """Every format that the service issues; the reply holds nothing of its text."""
    family, jti, code = new_id(), new_id(), new_id()
    made = LogMaker()
    made.open(family, sub="ann")
    made.commit(
        code,
        granted("authorization_code", sub="cat"),
        AuthorizationCodeIssued(made.now + timedelta(minutes=1), "challenge"),
    )
    made.commit(family, access_token(jti, made.now + timedelta(minutes=5), client_id="api"))
    made.commit(code, TokenRedeemed(0, "authorization_code"))
    made.commit(family, FamilyRevoked("operator", "request"), actor="operator")
    asked = await asking(made.log)
    keyring = Keyring({1: b"k" * 32})

    def minted(kind: TokenKind, family_id: str, number: int) -> str:
        return MacTokens(keyring, "acme", kind).mint(1, family_id, number, "seed")

    for token, expected in {
        minted("refresh", family, 0): (False, "revoked", 5, "FamilyRevoked"),
        minted("access", family, 3): (False, "revoked", 5, "FamilyRevoked"),
        minted("code", code, 0): (False, "redeemed", 4, "TokenRedeemed"),
        jwt(jti=jti, sid=family): (False, "revoked", 5, "FamilyRevoked"),
        jwt(jti=jti): (False, "revoked", 5, "FamilyRevoked"),
    }.items():
        answer = await asked("token", token=token)
        assert told(answer) == expected
        assert token[-20:] not in str(answer)
    assert (await asked("token", jti=jti))["client_id"] == "api"
    for wrong in (jwt(jti=jti, sid=code), minted("access", family, 1 << 40), minted("code", family, 0)):
        assert (await asked("token", token=wrong))["error_description"] == "there is no such token"


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b", jwt(sid="x"), jwt(jti=5), "e30." + "W" * 4000 + ".x", "ü.ü.ü", "hrt_", "hrt_" + "é" * 69],
)
def test_malformed_tokens(text: str) -> None:
    """Refused before any lookup."""
    with pytest.raises(NoToken):
        claim_of(text)
