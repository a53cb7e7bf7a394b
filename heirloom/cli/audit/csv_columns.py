"""The columns of each list as CSV, with or without items."""

from heirloom.cli.tables import ACTIVITY_COUNTS

_WHO = ("family_id", "client_id", "sub")
_FAMILY = (
    *_WHO,
    "scope",
    "grant",
    "status",
    "generation",
    "opened_at",
    "opened_seq",
    "expires_at",
    "revoked_at",
    "reason",
)
_REVOCATION = ("seq", *_WHO, "reason", "actor", "cause", "at", "jti")
_INCIDENT = ("presented_by", "generation", "current_generation")

COLUMNS: dict[str, tuple[str, ...]] = {
    "families": _FAMILY,
    "as_of": (*_FAMILY, "last_seq", "access_tokens"),
    "revocations": _REVOCATION,
    "incidents": ("at", "seq", "type", "reason", *_WHO, "actor", *_INCIDENT),
    "diff": ("seq", *_WHO, "changes", "before", "after"),
    "subject": (
        *("family_id", "client_id", "at", "seq", "types", "actor", "generation"),
        *("scope", "audience", "jti", "holder", "act", "access_expires_at"),
    ),
    "activity": ("hour", *ACTIVITY_COUNTS),
    "search": ("at", "seq", "type", *_WHO, "reason", "actor", "cause", "jti", *_INCIDENT),
}
"""Maps a query's name (contract §5) to its columns."""
