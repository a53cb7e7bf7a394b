"""The log for others: one flat record for each event, without what nobody outside has a use for (ADR 0010)."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from events.aggregates.commit import UnreadableCommit, type_of
from events.aggregates.subjects import AggregateName
from events.log import grammar
from events.log.grammar import Foreign, read_commit
from events.log.stored_commit import Stored

Record: TypeAlias = dict[str, Any]
"""Column → value; what is None or empty is left out."""

WITHHELD = {
    "GrantAuthorized.seed": "half of the secret that the family's tokens are computed from",
    "DeviceAuthorizationStarted.seed": "the same",
    "AuthorizationCodeIssued.code_challenge": "what redeeming a code is checked against",
    "AuthorizationCodeIssued.nonce": "what an ID token is checked against",
    "TokenRedeemed.retry": "digests of what a client chose, and of its request",
    "TokenRevoked.kept_until": "its `expires_at` and a setting of the service say it",
    "ClientSecretIssued.secret_hash": "a password hash can be guessed at",
    "ClientEnabled.void_until": "what the service compares an `iat` with, just before the commit's own time",
    "RoleAdded.secret_hash": "the same",
    "KeyPublished.secret": "which entry of the keyring: of use to nobody outside",
    "ClientConfigured.longest_ttl": "the settings of the client's earlier events say it",
    "TenantConfigured.longest_ttl": "the settings of the tenant's earlier events say it",
}
"""Fields that never leave, and why. Nor does any state: it holds the same."""

COMMIT = ("seq", "index", "at", "tenant", "aggregate", "aggregate_id", "type", "actor", "commit_id", "prev")
"""What every record has but `prev`, which an aggregate's first commit lacks: `index` counts a commit's events."""

RENAMED = {"at": "void_until"}
"""Fields of events that are called as a column of the commit is, which means something else: `at` is until when what a
client was given is void."""

TIMES = ("at", "expires_at", "family_expires_at", "void_until")
NUMBERS = (
    *("seq", "index", "generation", "current_generation", "from_generation", "to_generation"),
    *("auth_time", "key", "number"),
)
LISTS = ("audience", "amr", "act", "exchanged_from")
OBJECTS = ("settings", "jwk")

COLUMNS = (
    *COMMIT,
    *("client_id", "sub", "scope", "audience", "grant", "acr", "amr", "auth_time"),
    *("kind", "jti", "generation", "current_generation", "from_generation", "to_generation", "credential"),
    *("expires_at", "family_expires_at", "key", "act", "redirect_uri", "reason", "cause"),
    *("settings", "alg", "number", "jwk"),
    *("void_until", "role", "exchanged_from"),
)
"""In this order; new ones come last."""

EVENTS: dict[str, type[msgspec.Struct]] = {type_of(event): event for event in grammar.EVENTS}
"""Type → event."""

_FIELDS = {
    name: [field for field in event.__struct_fields__ if f"{name}.{field}" not in WITHHELD]
    for name, event in EVENTS.items()
}


def records(stored: Stored) -> Sequence[Record]:
    """A record for each event of the commit, in their order; none of what is foreign. Raises `UnreadableCommit`."""
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
    return [aggregate | {"index": index} | _told(event) for index, event in enumerate(commit.events)]


def _told(event: msgspec.Struct) -> Record:
    name = type_of(event)
    told = {RENAMED.get(field, field): getattr(event, field) for field in _FIELDS[name]}
    if told.get("key") == 0:
        del told["key"]  # an access or ID token has none
    return {"type": name} | {field: value for field, value in told.items() if value not in (None, (), {})}
