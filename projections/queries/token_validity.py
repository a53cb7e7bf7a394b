"""Was this token valid then, and which commit decided it?"""

import sqlite3
from typing import Any, Literal, NamedTuple, TypeAlias

from projections.decoded_commit import moment
from projections.queries.asked_moment import past_time
from projections.queries.requests import Refused, TokenRequest
from projections.queries.token_parser import Claim, IdToken, NoToken, claim_of
from projections.tables import cut_offs, families, history, position

Verdict: TypeAlias = Literal["valid", "not_issued", "expired", "revoked", "rotated", "redeemed", "denied"]

_ENDS: dict[str, Verdict] = {
    "FamilyRevoked": "revoked",
    "TokenRevoked": "revoked",
    "TokenRotated": "rotated",
    "TokenRedeemed": "redeemed",
    "DeviceAuthorizationDenied": "denied",
    "ClientDisabled": "revoked",
}

_FAMILY_OF = f"""
SELECT f.family_id FROM history AS h JOIN families AS f ON f.seq = h.family
WHERE {history.BY_JTI}
    AND f.tenant = (SELECT id FROM names WHERE text = :tenant) AND f.family_id = coalesce(:family, f.family_id)
"""  # noqa: S608  # a condition of ours


class Decision(NamedTuple):
    """A commit that gave a token or took it away; `at` in microseconds."""

    at: int
    seq: int
    type: str


class Life(NamedTuple):
    """One token: who gave it, until when (microseconds), and what may have ended it before."""

    given: Decision
    expires_at: int
    ends: list[Decision]
    told: dict[str, Any]


def token(db: sqlite3.Connection, tenant: str, request: TokenRequest, _limit: int, now: int) -> dict[str, Any]:
    """`valid` at the time asked about, `verdict` in a word, and `decided_by`, the commit that made it so.

    Raises `Refused` for a token this tenant's log does not know. That a token is genuine is not looked at: the answer
    is about the token that this one says it is.
    """
    claim, at = _claim(request), past_time(request.at, now)
    family = _family(db, tenant, claim, now)
    life = _life(db, family, claim, at)
    if life is None:
        raise _unknown()
    verdict, by = judge(life, at)
    decided_by = {"seq": by.seq, "type": by.type, "at": moment(by.at)}
    told = {"valid": verdict == "valid", "verdict": verdict, "family_id": family["family_id"], "decided_by": decided_by}
    told |= {key: family[key] for key in ("client_id", "sub", "scope")} | life.told
    return told | {"issued_at": moment(life.given.at), "expires_at": moment(life.expires_at), "at": moment(at)}


def judge(life: Life, at: int) -> tuple[Verdict, Decision]:
    """What the token was at that time, by the first thing that ended it; else by the commit that gave it."""
    if at < life.given.at:
        return "not_issued", life.given
    end = min(life.ends, default=None)
    if end is not None and end.at <= at and end.at < life.expires_at:
        return _ENDS[end.type], end
    return "valid" if at < life.expires_at else "expired", life.given


def _claim(request: TokenRequest) -> Claim:
    by_generation = request.family_id is not None, request.generation is not None
    if [request.token is not None, request.jti is not None, any(by_generation)].count(True) != 1 or (
        any(by_generation) != all(by_generation)
    ):
        raise Refused("invalid_request", "ask by token, or by jti, or by family_id and generation")
    if request.jti is not None:
        return Claim("access", None, request.jti)
    if request.token is None:
        return Claim("refresh", request.family_id, number=request.generation or 0)
    try:
        return claim_of(request.token)
    except IdToken as error:
        told = "that is an ID token: ask for its family (its claim `sid`), or by the access token it came with"
        raise Refused("invalid_request", told) from error
    except NoToken as error:
        raise Refused("invalid_request", "that is no token") from error


def _family(db: sqlite3.Connection, tenant: str, claim: Claim, now: int) -> dict[str, Any]:
    """The family the token says it is of; by `jti`, it is the one that the `jti` was issued in."""
    family_id = claim.family_id
    if claim.jti is not None:
        found = db.execute(
            _FAMILY_OF, {"wanted": history.packed(claim.jti), "tenant": tenant, "family": family_id}
        ).fetchone()
        family_id = found["family_id"] if found else None
    family = families.find(db, tenant, family_id, now) if family_id is not None else None
    if family is None:
        raise _unknown()
    return family


def _life(db: sqlite3.Connection, family: dict[str, Any], claim: Claim, at: int) -> Life | None:
    opened = family["opened_seq"]
    match claim.kind:
        case "access":
            return _access(db, opened, claim)
        case "refresh":
            return _refresh(db, opened, claim.number, at)
        case "code":
            return _code(db, opened)


def _access(db: sqlite3.Connection, family: int, claim: Claim) -> Life | None:
    condition, wanted = (
        ("h.seq = :wanted", claim.number) if claim.jti is None else (history.BY_JTI, history.packed(claim.jti))
    )
    query = f"{history.SELECT} WHERE {condition} AND h.family = :family AND h.jti IS NOT NULL"
    row = db.execute(query, {"wanted": wanted, "family": family}).fetchone()
    if row is None:
        return None
    told = history.access_token(row)
    told["kind"] = "access"
    ends = _revoked(db, family, told["jti"])
    voiding = cut_offs.Actors(db, family).voiding(told, row["seq"])
    ends.extend(Decision(order.at, order.seq, "ClientDisabled") for order in voiding)
    if "holder" in told:
        told["client_id"] = told.pop("holder")
    del told["access_expires_at"]
    end = history.after(row["at"], row["lifetime"])
    return Life(Decision(row["at"], row["seq"], "TokenIssued"), end, ends, told)


def _refresh(db: sqlite3.Connection, family: int, generation: int, at: int) -> Life | None:
    """Where tokens are reused, each use gives the token anew: the last one before `at` counts."""
    first, rotated = (history.given(db, family, number) for number in (generation, generation + 1))
    if first is None:
        return None
    latest = f"""{history.SELECT} WHERE h.family = ? AND h.seq BETWEEN ? AND ? AND h.patience IS NOT NULL
        AND h.generation = ? AND (h.at <= ? OR h.seq = ?) ORDER BY h.seq DESC LIMIT 1"""
    last = rotated["seq"] - 1 if rotated is not None else position.load(db)[0]
    row = db.execute(latest, (family, first["seq"], last, generation, at, first["seq"])).fetchone()
    if row is None:
        return None
    types = row["types"].split(" ")
    given = next(type for type in ("TokenRotated", "TokenIssued", "TokenRedeemed") if type in types)
    if given == "TokenIssued" and row["seq"] != first["seq"]:
        given = "TokenRedeemed"
    ends = _revoked(db, family, None)
    if rotated is not None:
        ends.append(Decision(rotated["at"], rotated["seq"], "TokenRotated"))
    end = history.after(row["at"], row["patience"])
    return Life(Decision(row["at"], row["seq"], given), end, ends, {"kind": "refresh", "generation": generation})


def _code(db: sqlite3.Connection, family: int) -> Life | None:
    """A code or device code is the first thing of its family, and its first redemption is the family's."""
    query = f"{history.SELECT} WHERE h.family = ? ORDER BY h.seq LIMIT {history.BEGINNING}"
    rows = db.execute(query, (family,)).fetchall()
    types = rows[0]["types"].split(" ")
    given = next((type for type in ("AuthorizationCodeIssued", "DeviceAuthorizationStarted") if type in types), None)
    if given is None:
        return None
    ends = _revoked(db, family, None)
    for row in rows:
        for type in ("TokenRedeemed", "DeviceAuthorizationDenied"):
            if type in row["types"].split(" "):
                ends.append(Decision(row["at"], row["seq"], type))
    first = Decision(rows[0]["at"], rows[0]["seq"], given)
    return Life(first, history.after(first.at, rows[0]["patience"]), ends, {"kind": "code"})


def _revoked(db: sqlite3.Connection, family: int, jti: str | None) -> list[Decision]:
    """Of the family, of the token alone, or of one that it was exchanged from (RFC 8693)."""
    query = """SELECT at, seq, jti FROM revocations WHERE family = :family AND (jti IS NULL OR jti = :jti
        OR jti IN (SELECT came_of FROM exchanges WHERE family = :family AND jti = :packed))"""
    packed = None if jti is None else history.packed(jti)
    found = db.execute(query, {"family": family, "jti": jti, "packed": packed})
    return [Decision(row["at"], row["seq"], "TokenRevoked" if row["jti"] else "FamilyRevoked") for row in found]


def _unknown() -> Refused:
    return Refused("invalid_request", "there is no such token")
