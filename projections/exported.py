"""The log for others: one flat record for each event, without what nobody outside has a use for (ADR 0010)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias, get_args

import msgspec

from events import client, family, key, role, subject, tenant
from events.commit import VERSION, UnreadableCommit
from events.stored import Stored

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
LISTS = ("audience", "amr", "act")
OBJECTS = ("settings", "jwk")

COLUMNS = (
    *COMMIT,
    *("client_id", "sub", "scope", "audience", "grant", "acr", "amr", "auth_time"),
    *("kind", "jti", "generation", "current_generation", "from_generation", "to_generation", "credential"),
    *("expires_at", "family_expires_at", "key", "act", "redirect_uri", "reason", "cause"),
    *("settings", "alg", "number", "jwk"),
    *("void_until", "role"),
)
"""In this order; new ones come last."""

_UNIONS: dict[str, Any] = {
    "family": family.FamilyEvent,
    "client": client.ClientEvent,
    "tenant": tenant.TenantEvent,
    "subject": subject.SubjectEvent,
    "key": key.KeyEvent,
    "role": role.RoleEvent,
}
EVENTS: dict[str, type[msgspec.Struct]] = {
    event.__struct_config__.tag: event for union in _UNIONS.values() for event in get_args(union) or (union,)
}
"""Type → event."""

_FIELDS = {
    name: [field for field in event.__struct_fields__ if f"{name}.{field}" not in WITHHELD]
    for name, event in EVENTS.items()
}


class _Commit(msgspec.Struct):
    v: int
    id: str
    at: datetime
    actor: str
    prev: str | None


def _decoder(union: Any) -> msgspec.json.Decoder[Any]:
    events = msgspec.defstruct("_Events", [("events", tuple[union, ...])], bases=(_Commit,))
    return msgspec.json.Decoder(events)


_DECODERS = {kind: _decoder(union) for kind, union in _UNIONS.items()}


def records(stored: Stored) -> Sequence[Record]:
    """A record for each event of the commit, in their order. Raises `UnreadableCommit`."""
    _, name, kind, *rest = stored.subject.split(".")
    try:
        commit = _DECODERS[kind].decode(stored.body)
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableCommit(f"sequence {stored.seq}: {error}") from error
    if commit.v != VERSION:
        raise UnreadableCommit(f"sequence {stored.seq}: commit version {commit.v} is unknown")
    aggregate: Record = {
        "seq": stored.seq,
        "at": commit.at,
        "tenant": name,
        "aggregate": kind,
        "aggregate_id": rest[0] if rest else name,
        "actor": commit.actor,
        "commit_id": commit.id,
    }
    if commit.prev is not None:
        aggregate["prev"] = commit.prev
    return [aggregate | {"index": index} | _told(event) for index, event in enumerate(commit.events)]


def _told(event: msgspec.Struct) -> Record:
    name = str(event.__struct_config__.tag)
    told = {RENAMED.get(field, field): getattr(event, field) for field in _FIELDS[name]}
    if told.get("key") == 0:
        del told["key"]  # an access or ID token has none
    return {"type": name} | {field: value for field, value in told.items() if value not in (None, (), {})}
