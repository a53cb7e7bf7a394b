"""Whether a token was valid at a given time, and which commit decided it."""

import sqlite3
from typing import Any, Literal, NamedTuple, TypeAlias

from projections.decoded_commit import moment
from projections.queries.asked_moment import past_time
from projections.queries.query import Answer, QueryContext
from projections.queries.requests import QueryRefused, TokenValidityRequest
from projections.queries.token_parser import IdToken, NoToken, TokenClaim, claim_of
from projections.tables import applied, cut_offs, families, history

Verdict: TypeAlias = Literal["valid", "not_issued", "expired", "revoked", "rotated", "redeemed", "denied"]

_ENDINGS: dict[str, Verdict] = {
    "FamilyRevoked": "revoked",
    "TokenRevoked": "revoked",
    "TokenRotated": "rotated",
    "TokenRedeemed": "redeemed",
    "DeviceAuthorizationDenied": "denied",
    "ClientDisabled": "revoked",
}

_FAMILY_OF_JTI = f"""
SELECT f.family_id FROM history AS h JOIN families AS f ON f.seq = h.family
WHERE {history.BY_JTI}
    AND f.tenant = (SELECT id FROM names WHERE text = :tenant) AND f.family_id = coalesce(:family, f.family_id)
"""  # noqa: S608  # a condition of ours


class DecidingCommit(NamedTuple):
    """A commit that issued a token or ended it; `at` in microseconds."""

    at: int
    seq: int
    type: str


class Life(NamedTuple):
    """One token: the commit that issued it, its expiry (microseconds), and the commits that may have ended it before.

    `shown` is what an answer shows of the token itself.
    """

    issued: DecidingCommit
    expires_at: int
    endings: list[DecidingCommit]
    shown: dict[str, Any]


def token(context: QueryContext, request: TokenValidityRequest) -> Answer:
    """Whether the token was `valid` at the requested time, `verdict` in a word, and `decided_by`, the deciding commit.

    Whether the token is genuine is not checked: the answer is about the token that its text names. Raises
    `QueryRefused` for a token that this tenant's log does not know.
    """
    claim, at = _claim(request), past_time(request.at, context.now)
    family = _family(context, claim)
    life = _life(context.db, family, claim, at)
    if life is None:
        raise _unknown()
    verdict, commit = judge(life, at)
    return {
        "valid": verdict == "valid",
        "verdict": verdict,
        "family_id": family["family_id"],
        "decided_by": {"seq": commit.seq, "type": commit.type, "at": moment(commit.at)},
        **{key: family[key] for key in ("client_id", "sub", "scope")},
        **life.shown,
        "issued_at": moment(life.issued.at),
        "expires_at": moment(life.expires_at),
        "at": moment(at),
    }


def judge(life: Life, at: int) -> tuple[Verdict, DecidingCommit]:
    """The verdict at that time, and its commit: the first that ended the token, else the one that issued it."""
    if at < life.issued.at:
        return "not_issued", life.issued
    ending = min(life.endings, default=None)
    if ending is not None and ending.at <= at and ending.at < life.expires_at:
        return _ENDINGS[ending.type], ending
    return "valid" if at < life.expires_at else "expired", life.issued


def _claim(request: TokenValidityRequest) -> TokenClaim:
    by_generation = request.family_id is not None, request.generation is not None
    if [request.token is not None, request.jti is not None, any(by_generation)].count(True) != 1 or (
        any(by_generation) != all(by_generation)
    ):
        raise QueryRefused("invalid_request", "ask by token, or by jti, or by family_id and generation")
    if request.jti is not None:
        return TokenClaim("access", None, request.jti)
    if request.token is None:
        return TokenClaim("refresh", request.family_id, number=request.generation or 0)
    try:
        return claim_of(request.token)
    except IdToken as error:
        advice = "that is an ID token: ask for its family (its claim `sid`), or by the access token it came with"
        raise QueryRefused("invalid_request", advice) from error
    except NoToken as error:
        raise QueryRefused("invalid_request", "that is no token") from error


def _family(context: QueryContext, claim: TokenClaim) -> dict[str, Any]:
    """The family that the token names, or in which its `jti` was issued."""
    db, tenant, family_id = context.db, context.tenant, claim.family_id
    if claim.jti is not None:
        parameters = {"wanted": claim.jti, "tenant": tenant, "family": family_id}
        found = db.execute(_FAMILY_OF_JTI, parameters).fetchone()
        family_id = found["family_id"] if found else None
    family = families.find(db, tenant, family_id, context.now) if family_id is not None else None
    if family is None:
        raise _unknown()
    return family


def _life(db: sqlite3.Connection, family: dict[str, Any], claim: TokenClaim, at: int) -> Life | None:
    opened = family["opened_seq"]
    match claim.kind:
        case "access":
            return _access_token(db, opened, claim)
        case "refresh":
            return _refresh_token(db, opened, claim.number, at)
        case "code":
            return _code(db, opened)


def _access_token(db: sqlite3.Connection, family: int, claim: TokenClaim) -> Life | None:
    condition, wanted = ("h.seq = :wanted", claim.number) if claim.jti is None else (history.BY_JTI, claim.jti)
    query = f"{history.SELECT} WHERE {condition} AND h.family = :family AND h.jti IS NOT NULL"
    row = db.execute(query, {"wanted": wanted, "family": family}).fetchone()
    if row is None:
        return None
    shown = history.access_token(row)
    shown["kind"] = "access"
    endings = _revocations(db, family, shown["jti"])
    voiding = cut_offs.Actors(db, family).voiding(shown, row["seq"])
    endings.extend(DecidingCommit(order.at, order.seq, "ClientDisabled") for order in voiding)
    if "holder" in shown:
        shown["client_id"] = shown.pop("holder")
    del shown["access_expires_at"]
    issued = DecidingCommit(row["at"], row["seq"], "TokenIssued")
    return Life(issued, history.access_end(row), endings, shown)


def _refresh_token(db: sqlite3.Connection, family: int, generation: int, at: int) -> Life | None:
    """The refresh token of one generation; without rotation each use renews it: the last use before `at` counts."""
    first, rotated = (history.commit_of_generation(db, family, number) for number in (generation, generation + 1))
    if first is None:
        return None
    latest = f"""{history.SELECT} WHERE h.family = ? AND h.seq BETWEEN ? AND ? AND h.credential_ttl IS NOT NULL
        AND h.generation = ? AND (h.at <= ? OR h.seq = ?) ORDER BY h.seq DESC LIMIT 1"""
    last = rotated["seq"] - 1 if rotated is not None else applied.load(db)[0]
    row = db.execute(latest, (family, first["seq"], last, generation, at, first["seq"])).fetchone()
    if row is None:
        return None
    types = row["types"].split(" ")
    type = next(type for type in ("TokenRotated", "TokenIssued", "TokenRedeemed") if type in types)
    if type == "TokenIssued" and row["seq"] != first["seq"]:
        type = "TokenRedeemed"
    issued = DecidingCommit(row["at"], row["seq"], type)
    endings = _revocations(db, family, None)
    if rotated is not None:
        endings.append(DecidingCommit(rotated["at"], rotated["seq"], "TokenRotated"))
    return Life(issued, history.credential_end(row), endings, {"kind": "refresh", "generation": generation})


def _code(db: sqlite3.Connection, family: int) -> Life | None:
    """The family's authorization code or device code: issued by its first commit, ended by its first redemption."""
    query = f"{history.SELECT} WHERE h.family = ? ORDER BY h.seq LIMIT {history.BEGINNING}"
    rows = db.execute(query, (family,)).fetchall()
    types = rows[0]["types"].split(" ")
    type = next((type for type in ("AuthorizationCodeIssued", "DeviceAuthorizationStarted") if type in types), None)
    if type is None:
        return None
    endings = _revocations(db, family, None)
    for row in rows:
        for ending in ("TokenRedeemed", "DeviceAuthorizationDenied"):
            if ending in row["types"].split(" "):
                endings.append(DecidingCommit(row["at"], row["seq"], ending))
    issued = DecidingCommit(rows[0]["at"], rows[0]["seq"], type)
    return Life(issued, history.credential_end(rows[0]), endings, {"kind": "code"})


def _revocations(db: sqlite3.Connection, family: int, jti: str | None) -> list[DecidingCommit]:
    """Revocations of the family, of the token alone, or of one that it was exchanged from (RFC 8693)."""
    query = """SELECT at, seq, jti FROM revocations WHERE family = :family AND (jti IS NULL OR jti = :jti
        OR jti IN (SELECT came_of FROM exchanges WHERE family = :family AND jti = :jti))"""
    found = db.execute(query, {"family": family, "jti": jti})
    return [DecidingCommit(row["at"], row["seq"], "TokenRevoked" if row["jti"] else "FamilyRevoked") for row in found]


def _unknown() -> QueryRefused:
    return QueryRefused("invalid_request", "there is no such token")
