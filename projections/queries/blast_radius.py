"""What a theft could reach: the tokens alive when the thief struck, what they were for, and how long until the end."""

import sqlite3
from datetime import datetime
from typing import Any

from events.aggregates.family import DEVICE_GRANT
from events.aggregates.family_events import Credential
from projections.decoded_commit import microseconds, moment
from projections.queries.query import Answer, QueryContext, known_family
from projections.queries.requests import FamilyRequest, QueryRefused
from projections.tables import cut_offs, history, incidents, revocations

_MAX_COMMITS = 1000
"""Commits before the theft that are searched, and incidents that are shown, the latest and the first."""

_BEFORE = f"{history.SELECT} WHERE h.family = ? AND h.seq < ? ORDER BY h.seq DESC LIMIT {_MAX_COMMITS}"


def blast_radius(context: QueryContext, request: FamilyRequest) -> Answer:
    """The reach of the family's first theft or forgery; `incident` is that one's reason, `reason` the family's.

    `alive` are the newest `limit` of the `alive_count` tokens found alive; `scope` and `audience` are those of all of
    them. `exposed_seconds` run from the issue of the copied token or code to the family's end, `seconds_to_end` from
    the incident. Raises `QueryRefused` for an unknown family and for one without any; late duplicates are none.
    """
    db = context.db
    family = known_family(context, request.family_id)
    found = incidents.of_family(db, family["opened_seq"])
    theft = next((incident for incident in found if incident["reason"] != incidents.LATE), None)
    if theft is None:
        raise QueryRefused("invalid_request", "there is no incident in this family")
    before = db.execute(_BEFORE, (family["opened_seq"], theft["seq"])).fetchall()[::-1]
    redemption = _redemption_of_code(db, family, theft)
    copied, branched = _branch(db, family, theft, redemption)
    alive = [*_access_tokens_alive(db, family, before, microseconds(theft["at"])), *_refresh_alive(db, family, theft)]
    ended = family["revoked_at"]
    return {
        **{key: family[key] for key in ("family_id", "client_id", "sub", "grant", "reason")},
        **{key: theft[key] for key in ("type", "seq", "generation", "current_generation", "presented_by")},
        "incident": theft["reason"],
        "struck_at": theft["at"],
        "copied_after": copied,
        "branched_at": branched,
        "ended_at": ended,
        "seconds_to_end": _seconds(theft["at"], ended),
        "exposed_seconds": _seconds(copied, ended),
        "alive": alive[-request.limit :],
        "alive_count": len(alive),
        "scope": " ".join(sorted({scope for token in alive for scope in token["scope"].split(" ")})),
        "audience": sorted({audience for token in alive for audience in token.get("audience", ())}),
        "presentations": sorted(
            (
                *redemption,
                *_rotations(before),
                *(_presentation(family, incident) for incident in found[:_MAX_COMMITS]),
            ),
            key=lambda presented: presented["seq"],
        ),
    }


def _access_tokens_alive(
    db: sqlite3.Connection, family: dict[str, Any], before: list[sqlite3.Row], struck_at: int
) -> list[dict[str, Any]]:
    """The access tokens that could be used at that time, with the seconds that each had left."""
    revoked = revocations.tokens_revoked(db, family["opened_seq"], "at", struck_at)
    actors = cut_offs.Actors(db, family["opened_seq"])
    tokens = []
    for row in before:
        if row["jti"] is not None and (end := history.access_end(row)) > struck_at:
            token = history.access_token(row)
            token["expires_at"] = token.pop("access_expires_at")
            is_void = any(order.at <= struck_at for order in actors.voiding(token, row["seq"]))
            if token["jti"] not in revoked and not is_void:
                tokens.append({"kind": "access", **token, "seconds_left": (end - struck_at) / history.SECOND})
    return tokens


def _refresh_alive(db: sqlite3.Connection, family: dict[str, Any], theft: dict[str, Any]) -> list[dict[str, Any]]:
    """The family's newest refresh token at that time, as `_access_tokens_alive` shows one; none if it had expired."""
    credential = history.credential_before(db, family["opened_seq"], theft["seq"])
    if credential is None or credential["generation"] is None:
        return []
    end, struck_at = history.credential_end(credential), microseconds(theft["at"])
    if end <= struck_at:
        return []
    return [
        {
            "kind": "refresh",
            "generation": credential["generation"],
            "scope": family["scope"],
            "expires_at": moment(end),
            "seconds_left": (end - struck_at) / history.SECOND,
        }
    ]


def _rotations(rows: list[sqlite3.Row]) -> list[dict[str, Any]]:
    """The refresh tokens that were redeemed for the next generation: by whom, and when."""
    return [
        _accepted("refresh_token", row["generation"] - 1, moment(row["at"]), row["seq"], row["actor"])
        for row in rows
        if "TokenRotated" in row["types"].split(" ")
    ]


def _redemption_of_code(db: sqlite3.Connection, family: dict[str, Any], theft: dict[str, Any]) -> list[dict[str, Any]]:
    """The first redemption of the code that was presented again; none for another incident."""
    if theft["reason"] != "code_reuse":
        return []
    beginning = history.timeline(db, family["opened_seq"], 0, history.BEGINNING)
    return [
        _accepted(_code_of(family), None, entry["at"], entry["seq"], entry["actor"])
        for entry in beginning
        if "TokenRedeemed" in entry["types"] and entry["seq"] < theft["seq"]
    ][:1]


def _branch(
    db: sqlite3.Connection, family: dict[str, Any], theft: dict[str, Any], redemption: list[dict[str, Any]]
) -> tuple[datetime | None, datetime | None]:
    """When the copied token or code was issued, and when its holder was issued the next one."""
    if theft["reason"] == "code_reuse":
        (opening,) = history.timeline(db, family["opened_seq"], 0, 1)
        return opening["at"], redemption[0]["at"] if redemption else None
    copied, branched = (_issued_at(db, family["opened_seq"], theft["generation"] + further) for further in (0, 1))
    return copied, branched


def _code_of(family: dict[str, Any]) -> Credential:
    return "device_code" if family["grant"] == DEVICE_GRANT else "authorization_code"


def _accepted(credential: Credential, generation: int | None, at: datetime, seq: int, by: str) -> dict[str, Any]:
    return {"credential": credential, "generation": generation, "at": at, "seq": seq, "by": by, "accepted": True}


def _presentation(family: dict[str, Any], incident: dict[str, Any]) -> dict[str, Any]:
    """An incident among the presentations; a code has no generation."""
    is_code = incident["reason"] == "code_reuse"
    return {
        "credential": _code_of(family) if is_code else "refresh_token",
        "generation": None if is_code else incident["generation"],
        "at": incident["at"],
        "seq": incident["seq"],
        "by": f"client:{incident['presented_by']}",
        "accepted": False,
    }


def _issued_at(db: sqlite3.Connection, family: int, generation: int) -> datetime | None:
    """When the family's refresh token of that generation was issued."""
    row = history.commit_of_generation(db, family, generation)
    return None if row is None else moment(row["at"])


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return None if since is None or until is None else (until - since).total_seconds()
