"""What a theft could reach: which tokens were alive when the thief struck, what for, and how long until the end."""

import sqlite3
from datetime import datetime
from typing import Any

from events.aggregates.family import DEVICE_GRANT, Credential
from projections.decoded_commit import microseconds, moment
from projections.queries.requests import FamilyRequest, Refused
from projections.tables import cut_offs, families, history, incidents, revocations

_COMMITS = 1000
"""The latest ones before the theft that are looked through, and the latest presentations told."""


def blast_radius(db: sqlite3.Connection, tenant: str, request: FamilyRequest, limit: int, now: int) -> dict[str, Any]:
    """Of the family's first incident; `incident` is its reason, `reason` the family's.

    `alive` are the newest `limit` of the `alive_count` tokens that were, as far as is looked back; `scope` and
    `audience` are of all of them. `exposed_seconds` is from when the copied token or code was given to the family's
    end; `seconds_to_end` from the strike. Raises `Refused` for an unknown family and for one without incidents.
    """
    family = families.find(db, tenant, request.family_id, now)
    if family is None:
        raise Refused("invalid_request", "there is no such family")
    shown = incidents.of_family(db, family["opened_seq"])
    if not shown:
        raise Refused("invalid_request", "there is no incident in this family")
    strike = shown[0]
    query = f"{history.SELECT} WHERE h.family = ? AND h.seq < ? ORDER BY h.seq DESC LIMIT {_COMMITS}"
    before = db.execute(query, (family["opened_seq"], strike["seq"])).fetchall()[::-1]
    redemption = _redemption_of_code(db, family, strike)
    accepted = [*redemption, *_redemptions(before)]
    copied, branched = _moments(db, family, strike, redemption)
    alive = [*_alive(db, family, before, microseconds(strike["at"])), *_refresh_alive(db, family, strike)]
    ended = family["revoked_at"]
    return {
        **{key: family[key] for key in ("family_id", "client_id", "sub", "grant", "reason")},
        **{key: strike[key] for key in ("type", "seq", "generation", "current_generation", "presented_by")},
        "incident": strike["reason"],
        "struck_at": strike["at"],
        "copied_after": copied,
        "branched_at": branched,
        "ended_at": ended,
        "seconds_to_end": _seconds(strike["at"], ended),
        "exposed_seconds": _seconds(copied, ended),
        "alive": alive[-limit:],
        "alive_count": len(alive),
        "scope": " ".join(sorted({scope for token in alive for scope in token["scope"].split(" ")})),
        "audience": sorted({audience for token in alive for audience in token.get("audience", ())}),
        "presentations": [*accepted, *(_presentation(family, incident) for incident in shown[:_COMMITS])],
    }


def _alive(
    db: sqlite3.Connection, family: dict[str, Any], before: list[sqlite3.Row], strike: int
) -> list[dict[str, Any]]:
    """The access tokens that could be used at that time, with the seconds each had left."""
    revoked = revocations.tokens_revoked(db, family["opened_seq"], "at", strike)
    actors = cut_offs.Actors(db, family["opened_seq"])
    tokens = []
    for row in before:
        if row["jti"] is not None and (end := history.after(row["at"], row["lifetime"])) > strike:
            token = history.access_token(row)
            token["expires_at"] = token.pop("access_expires_at")
            is_void = any(order.at <= strike for order in actors.voiding(token, row["seq"]))
            if token["jti"] not in revoked and not is_void:
                tokens.append({"kind": "access", **token, "seconds_left": (end - strike) / history.SECOND})
    return tokens


def _refresh_alive(db: sqlite3.Connection, family: dict[str, Any], strike: dict[str, Any]) -> list[dict[str, Any]]:
    """The refresh token that the family was continued with then, told as `_alive` tells; nothing if it had ended."""
    given, struck_at = history.credential(db, family["opened_seq"], strike["seq"]), microseconds(strike["at"])
    if given is None or given["generation"] is None:
        return []
    end = history.after(given["at"], given["patience"])
    told = {"kind": "refresh", "generation": given["generation"], "scope": family["scope"], "expires_at": moment(end)}
    return [told | {"seconds_left": (end - struck_at) / history.SECOND}] if end > struck_at else []


def _redemptions(rows: list[sqlite3.Row]) -> list[dict[str, Any]]:
    """Who was given the next generation for which, and when."""
    return [
        _accepted("refresh_token", row["generation"] - 1, moment(row["at"]), row["seq"], row["actor"])
        for row in rows
        if "TokenRotated" in row["types"].split(" ")
    ]


def _redemption_of_code(db: sqlite3.Connection, family: dict[str, Any], strike: dict[str, Any]) -> list[dict[str, Any]]:
    """Who was given tokens for the code that was shown again; nothing where no code was."""
    if strike["reason"] != "code_reuse":
        return []
    beginning = history.timeline(db, family["opened_seq"], 0, history.BEGINNING)
    return [
        _accepted(_code_of(family), None, entry["at"], entry["seq"], entry["actor"])
        for entry in beginning
        if "TokenRedeemed" in entry["types"] and entry["seq"] < strike["seq"]
    ][:1]


def _moments(
    db: sqlite3.Connection, family: dict[str, Any], strike: dict[str, Any], redemption: list[dict[str, Any]]
) -> tuple[datetime | None, datetime | None]:
    """When what was copied was given, and when its holder was given what came after it."""
    if strike["reason"] == "code_reuse":
        (opening,) = history.timeline(db, family["opened_seq"], 0, 1)
        return opening["at"], redemption[0]["at"] if redemption else None
    copied, branched = (_given(db, family["opened_seq"], strike["generation"] + further) for further in (0, 1))
    return copied, branched


def _code_of(family: dict[str, Any]) -> Credential:
    return "device_code" if family["grant"] == DEVICE_GRANT else "authorization_code"


def _accepted(credential: Credential, generation: int | None, at: datetime, seq: int, by: str) -> dict[str, Any]:
    return {"credential": credential, "generation": generation, "at": at, "seq": seq, "by": by, "accepted": True}


def _presentation(family: dict[str, Any], incident: dict[str, Any]) -> dict[str, Any]:
    """An incident, as it is told among the presentations: a code has no generation."""
    is_code = incident["reason"] == "code_reuse"
    told = {
        "credential": _code_of(family) if is_code else "refresh_token",
        "generation": None if is_code else incident["generation"],
    }
    return {
        **told,
        "at": incident["at"],
        "seq": incident["seq"],
        "by": f"client:{incident['presented_by']}",
        "accepted": False,
    }


def _given(db: sqlite3.Connection, family: int, generation: int) -> datetime | None:
    """When the family got that generation."""
    row = history.given(db, family, generation)
    return None if row is None else moment(row["at"])


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return None if since is None or until is None else (until - since).total_seconds()
