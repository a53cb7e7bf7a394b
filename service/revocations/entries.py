"""The entries of the revocation feed, and which commit leads to which one; pure (CONTRACT §8).

A resource server needs no more than the names that a token itself holds: no `sub`, scope or seed is in an entry. Times
are NumericDates (RFC 7519 §2).
"""

import math
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from events.aggregates.aggregate_names import AggregateName
from events.aggregates.client import ClientDisabled, ClientEnabled, ClientState
from events.aggregates.commit import Commit, digest
from events.aggregates.family import FamilyState
from events.aggregates.family_events import FamilyEvent, RevocationReason, TokenRevoked
from events.aggregates.key import KeyState
from service.revocations.stream import VERIFIER_LEEWAY_SECONDS

ReasonClass: TypeAlias = Literal["security", "request", "administration"]
"""Why, as far as it is a resource server's business: which person was blocked is not."""

_CLASSES: dict[RevocationReason, ReasonClass] = {
    "reuse_detected": "security",
    "code_reuse": "security",
    "forgery": "security",
    "client_request": "request",
}


class _Entry(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, kw_only=True):
    """`n` is the entry's number in the feed, `prev` one that no other entry of the tenant lies between.

    `seq` is the commit's sequence in the log, `at` its time, `commit` the beginning of its digest.
    """

    n: int = 0
    prev: int = 0
    seq: int
    commit: str = ""
    at: float


class FamilyEnded(_Entry, frozen=True, tag="family"):
    """Every token of the family is void; from `until` on all have expired."""

    reason: ReasonClass
    family_id: str
    until: int

    def subject(self, tenant: str) -> str:
        """Where it is heard."""
        return f"revocations.{tenant}.{self.family_id}"


class TokenEnded(_Entry, frozen=True, tag="token"):
    """One access token, and whatever was exchanged for it, is void; from `until` on it has expired."""

    reason: ReasonClass
    family_id: str
    jti: str
    until: int

    def subject(self, tenant: str) -> str:
        """Where it is heard."""
        return f"revocations.{tenant}.{self.family_id}"


class ClientVoided(_Entry, frozen=True, tag="client"):
    """Tokens with the client as `client_id` or in `act` are void: all of them while it is disabled.

    Once it is enabled again, those whose `iat` is not after `void_until`. From `until` on all of these have expired.
    """

    client_id: str
    until: int
    void_until: float | None = None

    def subject(self, tenant: str) -> str:
        """Where it is heard."""
        return f"revocations.{tenant}.client.{self.client_id}"


class KeyChanged(_Entry, frozen=True, tag="key"):
    """A signing key has this `status` now. A retired one has signed tokens that may be valid for a while."""

    kid: str
    status: Literal["next", "active", "retired"]
    jwk: dict[str, str]

    def subject(self, tenant: str) -> str:
        """Where it is heard."""
        return f"keys.{tenant}"


Entry: TypeAlias = FamilyEnded | TokenEnded | ClientVoided | KeyChanged


class Progress(msgspec.Struct, frozen=True, tag_field="type", tag="progress"):
    """The log up to `seq`, where the message with the digest `commit` is, led to no other entries."""

    seq: int
    commit: str = ""


class Heartbeat(msgspec.Struct, frozen=True):
    """All that the log had at the broker's time `at` is in the feed of this name; the tenant's newest entry is `n`."""

    feed: str
    n: int
    at: float


def abridged_digest(body: bytes) -> str:
    """What stands for a message of the log: another log has another message at the same sequence."""
    return digest(body)[:16]


decode = msgspec.json.Decoder(Entry | Progress).decode
"""Decodes a stored message. Raises `msgspec.DecodeError` for anything else."""


def client_of(name: AggregateName, commit: Commit[Any, Any]) -> str | None:
    """The client whose tokens' lifetime bounds how long the commit's entry is needed; None for one without an end."""
    match name.kind:
        case "family":
            state: FamilyState = commit.state
            return state.client_id
        case "client":
            return name.id
    return None


def entry_of(name: AggregateName, seq: int, commit: Commit[Any, Any], keep: int) -> Entry | None:
    """The entry that the commit at `seq` leads to, or None.

    `keep` is for how many seconds a token of its client (`client_of`) may be accepted, at the most.
    """
    at = commit.at.timestamp()
    match name.kind:
        case "family":
            return _of_family(name.id, seq, commit, math.ceil(at) + keep)
        case "client":
            client: ClientState = commit.state
            if not any(isinstance(event, ClientDisabled | ClientEnabled) for event in commit.events):
                return None
            void_until = None if client.disabled else (client.void_until or commit.at).timestamp()
            until = math.ceil(max(at, void_until or 0)) + keep
            return ClientVoided(seq=seq, at=at, client_id=name.id, until=until, void_until=void_until)
        case "key":
            key: KeyState = commit.state
            return KeyChanged(seq=seq, at=at, kid=name.id, status=key.status, jwk=key.jwk) if key.jwk else None
    return None


def _of_family(
    family_id: str, seq: int, commit: Commit[FamilyEvent, FamilyState], until: int
) -> FamilyEnded | TokenEnded | None:
    at = commit.at.timestamp()
    singly = [event for event in commit.events if isinstance(event, TokenRevoked)]
    if commit.state.revoked is not None:
        reason = _CLASSES.get(commit.state.revoked.reason, "administration")
        return FamilyEnded(seq=seq, at=at, reason=reason, family_id=family_id, until=until)
    if not singly:
        return None
    reason = _CLASSES.get(singly[0].reason, "administration")
    if len(singly) > 1:  # no decision does so; a commit leads to one entry, and that must not say too little
        return FamilyEnded(seq=seq, at=at, reason=reason, family_id=family_id, until=until)
    kept: datetime = singly[0].kept_until or singly[0].expires_at
    kept_until = math.ceil(kept.timestamp()) + VERIFIER_LEEWAY_SECONDS
    return TokenEnded(seq=seq, at=at, reason=reason, family_id=family_id, jti=singly[0].jti, until=kept_until)
