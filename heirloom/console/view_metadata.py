"""Titles, descriptions and facets of the read model's views, for people."""

from typing import Any

_AT = "When it was committed to the log: RFC 3339, UTC"
_SEQ = "The commit's sequence in the log; `heirloom audit prove --seq` proves it"
_TENANT = "The issuer it happened at"
_FAMILY = "A sign-in and every token that came of it; also the `sid` claim of those tokens"
_CLIENT = "The client the family belongs to"
_SUB = "The person (or client) the tokens speak for"
_REASON = "Why the family ended; empty while nothing was revoked"

_SHARED = {"seq": _SEQ, "at": _AT, "tenant": _TENANT, "family_id": _FAMILY, "client_id": _CLIENT, "sub": _SUB}


def _table(title: str, about: str, columns: dict[str, str], facets: list[str], newest: str = "seq") -> dict[str, Any]:
    """Datasette's metadata of a view, newest rows first."""
    described = {"title": title, "description": about, "columns": columns}
    return {**described, "facets": facets, "sort_desc": newest, "size": 50}


TABLES: dict[str, Any] = {
    "readable_tenants": _table("Tenants", "The issuers something happened at.", {"tenant": _TENANT}, [], "tenant"),
    "readable_families": _table(
        "Families",
        "One row for each sign-in, as it stands now: who it is of, how many times its refresh token was rotated, and "
        "how it ended.",
        {
            **{name: _SHARED[name] for name in ("seq", "tenant", "family_id", "client_id", "sub")},
            "began_at": "When it began: RFC 3339, UTC",
            "status": "`live`, `expired` by time, `revoked`, or `denied` by the person",
            "reason": _REASON,
            "generation": "The newest refresh token's: 0 for the first, one more at every rotation",
            "grant": "How it began (RFC 6749 `grant_type`, or `issue` by a login service)",
            "scope": "What was granted at most",
            "expires_at": "When its last token ends",
            "revoked_at": "When it was revoked",
        },
        ["status", "reason", "client_id", "grant", "tenant"],
    ),
    "readable_history": _table(
        "History",
        "One row for each commit of each family: the timeline everything else is drawn from.",
        {
            **_SHARED,
            "events": "What happened, in order; all of it or nothing",
            "actor": "Whose request it was",
            "generation": "The refresh token's generation after it",
            "scope": "Of the access token issued then",
            "audience": "Where that access token is accepted",
            "jti": "That access token's id",
            "holder": "The client that token was exchanged for (RFC 8693); empty for the family's own",
            "act": "The clients that have acted with that token, the latest first",
            "exchanged_from": "The ids of the tokens that it came of: it ends with any of them",
            "access_expires_at": "When that access token ends",
            "credential_expires_at": "When the refresh token, code or device code given then ends",
        },
        ["events", "client_id", "actor", "tenant"],
    ),
    "readable_revocations": _table(
        "Revocations",
        "One row for each time something was revoked: a whole family, or a single access token.",
        {
            **_SHARED,
            "reason": "Why",
            "actor": "Whose request led to it",
            "revoked": "What ended: the family, or one access token",
            "cause": "What led to it: an order, a presentation, a request",
            "jti": "The access token that was revoked alone",
        },
        ["reason", "client_id", "actor", "revoked", "tenant"],
    ),
    "readable_incidents": _table(
        "Incidents",
        "One row for each time somebody showed what nobody should have: a token that was used before, or one that was "
        "never issued. The family was ended before that request was answered, unless it was a late duplicate.",
        {
            **_SHARED,
            "type": "`TokenReuseDetected`: two parties hold a copy. `ForgeryDetected`: a key has leaked. "
            "`LateDuplicateRefused`: the client's own request came late, and ended nothing",
            "reason": "What the family ended for, or `late_duplicate`",
            "presented_by": "The client that showed the old token",
            "presented_generation": "The generation that was shown",
            "newest_generation": "The newest one at that time",
        },
        ["type", "reason", "client_id", "presented_by", "tenant"],
    ),
    "readable_cut_offs": _table(
        "Cut-offs",
        "One row for each order against a person or a client: blocked, revoked, consent withdrawn, disabled, and the "
        "reverse.",
        {
            **{name: _SHARED[name] for name in ("seq", "at", "tenant", "sub")},
            "type": "What was ordered",
            "actor": "By whom",
            "client_id": "The client that was meant, or whose consent was withdrawn",
            "reason": "In the operator's words",
        },
        ["type", "actor", "client_id", "tenant"],
    ),
    "readable_foreign_messages": _table(
        "Foreign messages",
        "One row for each message of the log that is no commit: somebody who is not the service wrote it. It was "
        "stepped over, and `heirloom audit verify` names it too.",
        {
            "seq": "Its sequence in the log",
            "tenant": "What its subject names in the place of an issuer",
            "subject": "As much of its subject as can safely be shown",
            "reason": "Why it is no commit",
        },
        ["tenant", "reason"],
    ),
    "readable_activity": _table(
        "Activity",
        "One row for each hour and tenant in which something happened.",
        {
            "hour": "Its beginning: RFC 3339, UTC",
            "tenant": _TENANT,
            "begun": "Families begun",
            "issued": "Access tokens issued",
            "refreshed": "Refresh tokens redeemed",
            "revoked": "Families revoked",
            "tokens_revoked": "Access tokens revoked alone",
            "reuse": "Old tokens shown again",
            "forged": "Tokens shown that were never issued",
        },
        ["tenant"],
        "hour",
    ),
}
"""View → Datasette's metadata."""
