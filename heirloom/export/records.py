"""The exported form of the log: one flat record for each event, without fields of internal use (ADR 0010)."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from events.aggregates.aggregate_names import AggregateName
from events.aggregates.commit import UnreadableCommit, type_of
from events.log import grammar
from events.log.grammar import Foreign, read_commit
from events.log.stored_message import StoredMessage

Record: TypeAlias = dict[str, Any]
"""Column → value; None and empty values are left out."""

WITHHELD = {
    "GrantAuthorized.seed": "half of the secret that the family's tokens are computed from",
    "DeviceAuthorizationStarted.seed": "the same",
    "AuthorizationCodeIssued.code_challenge": "what redeeming a code is checked against",
    "AuthorizationCodeIssued.nonce": "what an ID token is checked against",
    "TokenRedeemed.retry": "digests of what a client chose, and of its request",
    "LateDuplicateRefused.retry": "the same",
    "TokenRevoked.kept_until": "its `expires_at` and a setting of the service say it",
    "ClientSecretIssued.secret_hash": "a password hash can be guessed at",
    "ClientEnabled.void_until": "what the service compares an `iat` with, just before the commit's own time",
    "RoleAdded.secret_hash": "the same",
    "KeyPublished.secret": "which entry of the keyring: of use to nobody outside",
    "ClientConfigured.longest_ttl": "the settings of the client's earlier events say it",
    "TenantConfigured.longest_ttl": "the settings of the tenant's earlier events say it",
}
"""Fields that are never exported, and why. Neither are states, which contain the same."""

COMMIT = ("seq", "index", "at", "tenant", "aggregate", "aggregate_id", "type", "actor", "commit_id", "prev")
"""Every record's columns; only `prev` is missing in an aggregate's first commit. `index` counts a commit's events."""
ALWAYS = frozenset(COMMIT) - {"prev"}
"""The columns that every record fills."""

RENAMED = {"at": "void_until"}
"""Fields that have the name of a commit's column but another meaning: `at` is the time until which grants are void."""

TIMES = ("at", "expires_at", "family_expires_at", "void_until")
NUMBERS = (
    *("seq", "index", "generation", "current_generation", "from_generation", "to_generation"),
    *("auth_time", "key", "number", "first"),
)
LISTS = ("audience", "amr", "act", "exchanged_from")
OBJECTS = ("settings", "jwk")

COLUMNS = (
    *COMMIT,
    *("client_id", "sub", "scope", "audience", "grant", "acr", "amr", "auth_time"),
    *("kind", "jti", "generation", "current_generation", "from_generation", "to_generation", "credential"),
    *("expires_at", "family_expires_at", "key", "act", "redirect_uri", "reason", "cause"),
    *("settings", "alg", "number", "jwk"),
    *("void_until", "role", "exchanged_from", "first"),
)
"""All columns, in this order; new ones are appended."""

EVENTS: dict[str, type[msgspec.Struct]] = {type_of(event): event for event in grammar.EVENTS}
"""Maps a type to its event."""

_FIELDS = {
    name: [field for field in event.__struct_fields__ if f"{name}.{field}" not in WITHHELD]
    for name, event in EVENTS.items()
}


def records(stored: StoredMessage) -> Sequence[Record]:
    """A record for each event of the commit, in order; none for a foreign message. Raises `UnreadableCommit`."""
    try:
        commit = read_commit(stored)
    except UnreadableCommit as error:
        raise UnreadableCommit(f"sequence {stored.seq}: {error}") from error
    if isinstance(commit, Foreign):
        return ()
    name = AggregateName.parse(stored.subject)
    aggregate: Record = {
        "seq": stored.seq,
        "at": commit.at,
        "tenant": name.tenant,
        "aggregate": name.kind,
        "aggregate_id": name.id,
        "actor": commit.actor,
        "commit_id": commit.id,
    }
    if commit.prev is not None:
        aggregate["prev"] = commit.prev
    return [aggregate | {"index": index} | _fields_of(event) for index, event in enumerate(commit.events)]


def _fields_of(event: msgspec.Struct) -> Record:
    name = type_of(event)
    fields = {RENAMED.get(field, field): getattr(event, field) for field in _FIELDS[name]}
    if fields.get("key") == 0:
        del fields["key"]  # an access or ID token has none
    return {"type": name} | {field: value for field, value in fields.items() if value not in (None, (), {})}
