"""The tables for people: SQL views with words for numbers and RFC 3339 for microseconds, for any SQLite tool.

A view joins the tables that queries filter by (tenant, family), so that their indexes serve it. Every other word is
looked up for the shown rows only.
"""

# ruff: noqa: S608  # what is put into the SQL is of this file alone

from sqlite_utils import Database

from projections.tables.activity import COUNTS


def create(db: Database) -> None:
    """Create the views of `VIEWS`."""
    for name, select in VIEWS.items():
        db.execute(f"CREATE VIEW {name} AS {select}")


def _word(column: str) -> str:
    return f"(SELECT text FROM names WHERE id = {column})"


def _time(microseconds: str) -> str:
    """RFC 3339 in UTC, as in the log; null stays null."""
    seconds = f"{microseconds} / 1000000, 'unixepoch'"
    return f"strftime('%Y-%m-%dT%H:%M:%S', {seconds}) || printf('.%06dZ', {microseconds} % 1000000)"


def _later(at: str, seconds: str) -> str:
    """The time that many seconds after `at`; null where `seconds` is null."""
    end = f"({at} + CAST(round({seconds} * 1000000) AS INTEGER))"
    return f"CASE WHEN {seconds} IS NOT NULL THEN {_time(end)} END"


VIEWS = {
    "readable_tenants": "SELECT text AS tenant FROM names"
    " WHERE id IN (SELECT tenant FROM tenants UNION SELECT tenant FROM activity)",
    "readable_families": f"""
        SELECT f.seq, {_time("f.at")} AS began_at, tenant.text AS tenant, f.family_id, client.text AS client_id,
            f.sub, CASE WHEN f.revoked_at IS NOT NULL THEN 'revoked' WHEN f.denied_at IS NOT NULL THEN 'denied'
                WHEN f.expires_at <= strftime('%s', 'now') * 1000000 THEN 'expired' ELSE 'live' END AS status,
            {_word("f.reason")} AS reason, f.generation, {_word("f.grant_type")} AS "grant",
            {_word("f.scope")} AS scope, {_time("f.expires_at")} AS expires_at, {_time("f.revoked_at")} AS revoked_at
        FROM families AS f
        JOIN names AS tenant ON tenant.id = f.tenant
        JOIN names AS client ON client.id = f.client""",
    "readable_history": f"""
        SELECT h.seq, {_time("h.at")} AS at, tenant.text AS tenant, f.family_id,
            {_word("f.client")} AS client_id, f.sub, {_word("h.types")} AS events, {_word("h.actor")} AS actor,
            h.generation, json_extract({_word("h.terms")}, '$.scope') AS scope,
            json_extract({_word("h.terms")}, '$.audience') AS audience, h.jti,
            json_extract({_word("h.terms")}, '$.holder') AS holder, json_extract({_word("h.terms")}, '$.act') AS act,
            (SELECT CASE WHEN count(*) THEN json_group_array(e.came_of) END
                FROM exchanges AS e WHERE e.family = h.family AND e.jti = h.jti) AS exchanged_from,
            {_later("h.at", "h.access_ttl")} AS access_expires_at,
            {_later("h.at", "h.credential_ttl")} AS credential_expires_at
        FROM history AS h
        JOIN families AS f ON f.seq = h.family
        JOIN names AS tenant ON tenant.id = f.tenant""",
    "readable_revocations": f"""
        SELECT r.seq, {_time("r.at")} AS at, tenant.text AS tenant, f.family_id,
            {_word("r.client")} AS client_id, r.sub, {_word("r.reason")} AS reason, {_word("r.actor")} AS actor,
            CASE WHEN r.jti IS NULL THEN 'family' ELSE 'access token' END AS revoked, r.cause, r.jti
        FROM revocations AS r
        JOIN families AS f ON f.seq = r.family
        JOIN names AS tenant ON tenant.id = r.tenant""",
    "readable_incidents": f"""
        SELECT i.seq, {_time("i.at")} AS at, tenant.text AS tenant, f.family_id,
            {_word("i.client")} AS client_id, i.sub, {_word("i.type")} AS type, {_word("i.reason")} AS reason,
            {_word("i.presenter")} AS presented_by, i.presented AS presented_generation, i.current AS newest_generation
        FROM incidents AS i
        JOIN families AS f ON f.seq = i.family
        JOIN names AS tenant ON tenant.id = i.tenant""",
    "readable_cut_offs": f"""
        SELECT c.seq, {_time("c.at")} AS at, tenant.text AS tenant, {_word("c.type")} AS type,
            {_word("c.actor")} AS actor, {_word("c.client")} AS client_id, c.sub, c.reason
        FROM cut_offs AS c JOIN names AS tenant ON tenant.id = c.tenant""",
    "readable_foreign_messages": "SELECT seq, tenant, subject, reason FROM foreign_messages",
    "readable_activity": f"""
        SELECT {_time("a.at")} AS hour, tenant.text AS tenant, {", ".join(f"a.{count}" for count in COUNTS)}
        FROM activity AS a JOIN names AS tenant ON tenant.id = a.tenant""",
}
"""Maps a view to its query."""
