"""The console's canned queries, with the labels and help of their parameters, and where their rows lead.

They only use the views, so that a console of one tenant shows that tenant's rows in every query.
"""

from typing import Any

from heirloom.time_text import FORMS
from projections.tables.activity import COUNTS

# ruff: noqa: S608  # what is put into the SQL is of this file alone; parameters are bound

_OF_TENANT = "tenant IN (SELECT tenant FROM readable_tenants WHERE :tenant IN ('', tenant))"
_OF_CLIENT_AND_SUB = "(:client_id = '' OR client_id = :client_id) AND (:sub = '' OR sub = :sub)"
_SINCE = "(:since = '' OR at >= :since)"

PARAMETERS: dict[str, tuple[str, str]] = {
    "family_id": ("Family", "Its id: the sid claim of every token of it."),
    "sub": ("Subject", "The person, exactly as the tokens name them."),
    "client_id": ("Client", "Its client_id."),
    "reason": ("Reason", "Such as reuse_detected, operator, subject_blocked."),
    "since": ("Since", f"In UTC: {FORMS}."),
    "tenant": ("Tenant", "One issuer; all of them where it is empty."),
}
"""Parameter → its label and its help."""

_STRIKE = f"""WITH strike AS (
    SELECT min(seq) AS seq, at FROM readable_incidents
    WHERE family_id = :family_id AND reason <> 'late_duplicate' AND {_OF_TENANT}
), commits AS (
    SELECT h.*, strike.at AS struck_at FROM readable_history AS h, strike
    WHERE h.family_id = :family_id AND {_OF_TENANT} AND h.seq < strike.seq
)"""


def _query(title: str, about: str, sql: str, *parameters: str, rest: str = "") -> dict[str, Any]:
    """A query without rows until its `parameters` are filled in; those in `rest` are optional."""
    optional = rest.split()
    return {
        "title": title,
        "description": about,
        "sql": sql.strip(),
        "params": [*parameters, *optional],
        "hide_sql": True,
        "required": parameters,
    }


QUERIES: dict[str, Any] = {
    "incidents": _query(
        "Incidents",
        "Tokens that were shown again, late, or never issued, the newest first. Open a family to see what led to it.",
        f"""
SELECT at, seq, type, tenant, family_id, client_id, sub, presented_by, presented_generation, newest_generation
FROM readable_incidents
WHERE {_OF_TENANT} AND {_OF_CLIENT_AND_SUB} AND {_SINCE} ORDER BY seq DESC""",
        rest="client_id sub since tenant",
    ),
    "revocations": _query(
        "Revocations",
        "Everything that was revoked, the newest first: when, what, why, and by whom.",
        f"""
SELECT at, seq, reason, tenant, family_id, client_id, sub, revoked, actor, cause
FROM readable_revocations
WHERE {_OF_TENANT} AND {_OF_CLIENT_AND_SUB} AND (:reason = '' OR reason = :reason) AND {_SINCE} ORDER BY seq DESC""",
        rest="reason client_id sub since tenant",
    ),
    "family": _query(
        "Timeline of a family",
        "From the sign-in to the end: every rotation, every token, and who asked.",
        f"""
SELECT h.at, h.seq, h.generation, h.events, h.actor,
    (SELECT CASE reason WHEN 'code_reuse' THEN 'the code' ELSE 'generation ' || presented_generation END
        || ' by ' || presented_by FROM readable_incidents AS i WHERE i.seq = h.seq) AS presented,
    (SELECT reason FROM readable_revocations AS r WHERE r.seq = h.seq) AS reason,
    (SELECT cause FROM readable_revocations AS r WHERE r.seq = h.seq) AS cause,
    h.scope, h.access_expires_at, h.jti
FROM readable_history AS h
WHERE h.family_id = :family_id AND {_OF_TENANT} ORDER BY h.seq""",
        "family_id",
        rest="tenant",
    ),
    "blast_radius": _query(
        "Blast radius of a theft",
        "The tokens of the family that were alive when the old one was shown for the first time: what they could "
        "reach, and how much longer they would have lasted. All of them ended with the family.",
        f"""
{_STRIKE}
SELECT 'access' AS kind, jti, generation, scope, audience,
    round((julianday(access_expires_at) - julianday(struck_at)) * 86400, 1) AS seconds_left,
    struck_at, at AS issued_at, access_expires_at AS expires_at
FROM commits
WHERE access_expires_at > struck_at AND NOT EXISTS (
    SELECT 1 FROM readable_revocations AS r
    WHERE r.family_id = commits.family_id AND r.tenant = commits.tenant AND r.at <= struck_at
    AND (r.jti = commits.jti OR instr(commits.exchanged_from, json_quote(r.jti))))
AND NOT EXISTS (
    SELECT 1 FROM readable_cut_offs AS c
    WHERE c.client_id <> commits.client_id AND c.tenant = commits.tenant AND c.sub IS NULL
    AND (c.client_id = commits.holder OR instr(commits.act, json_quote(c.client_id)))
    AND c.type = 'ClientDisabled' AND c.at <= struck_at
    AND NOT EXISTS (
        SELECT 1 FROM readable_cut_offs AS e
        WHERE e.tenant = c.tenant AND e.sub IS NULL AND e.client_id = c.client_id
        AND e.type = 'ClientEnabled' AND e.seq > c.seq AND e.seq < commits.seq))
UNION ALL
SELECT 'refresh', NULL, generation, (SELECT scope FROM readable_families AS f WHERE f.family_id = newest.family_id),
    NULL, round((julianday(credential_expires_at) - julianday(struck_at)) * 86400, 1),
    struck_at, at, credential_expires_at
FROM (SELECT * FROM commits WHERE generation IS NOT NULL AND credential_expires_at IS NOT NULL
    ORDER BY seq DESC LIMIT 1) AS newest
WHERE credential_expires_at > struck_at""",
        "family_id",
        rest="tenant",
    ),
    "subject": _query(
        "History of a subject",
        "Everything that happened in the families of one person, the newest first.",
        f"""
SELECT at, seq, tenant, family_id, client_id, events, actor, generation, scope
FROM readable_history
WHERE sub = :sub AND {_OF_TENANT} AND {_SINCE} ORDER BY seq DESC""",
        "sub",
        rest="since tenant",
    ),
    "client": _query(
        "History of a client",
        "The families of one client, the newest first: whose they are, and how they stand.",
        f"""
SELECT began_at, seq, tenant, family_id, sub, status, reason, generation, "grant", scope, expires_at, revoked_at
FROM readable_families
WHERE client_id = :client_id AND {_OF_TENANT} AND (:since = '' OR began_at >= :since) ORDER BY seq DESC""",
        "client_id",
        rest="since tenant",
    ),
    "living_families": _query(
        "Families living",
        "Every family that holds a token that is good now, the newest first.",
        f"""
SELECT began_at, seq, tenant, family_id, client_id, sub, generation, "grant", scope, expires_at
FROM readable_families
WHERE status = 'live' AND {_OF_TENANT} AND {_OF_CLIENT_AND_SUB} ORDER BY seq DESC""",
        rest="client_id sub tenant",
    ),
    "activity": _query(
        "Activity per hour",
        "How much happened in each hour, the newest first.",
        f"""
SELECT hour, {", ".join(f"sum({count}) AS {count}" for count in COUNTS)}
FROM readable_activity
WHERE {_OF_TENANT} AND (:since = '' OR hour >= :since) GROUP BY hour ORDER BY hour DESC""",
        rest="since tenant",
    ),
}
"""Name → Datasette's canned query."""
