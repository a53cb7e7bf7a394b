"""The events of a token family, which `events.aggregates.family` folds into its state."""

from typing import Literal, TypeAlias

import msgspec

from events.aggregates.commit import Time

Credential: TypeAlias = Literal["refresh_token", "authorization_code", "device_code"]

RevocationReason: TypeAlias = Literal[
    "reuse_detected",
    "code_reuse",
    "client_request",
    "operator",
    "subject_blocked",
    "subject_revoked",
    "consent_withdrawn",
    "client_disabled",
    "policy_changed",
    "forgery",
]


class Retry(msgspec.Struct, frozen=True, gc=False):
    """The digests of an `Idempotency-Key` and of its request."""

    key: str
    body: str


class _Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Fields with their default are omitted in JSON, except in `GrantAuthorized`."""


class GrantAuthorized(_Event, frozen=True, tag="GrantAuthorized", omit_defaults=False):
    """A family began: `client_id` may act for `sub` within `scope` and `audience` (RFC 6749 §1.3).

    All fields are written: an unknown authentication of the person is a fact, too. `grant` is the grant type, or
    `issue`. The family's tokens are computed under `seed` and the service's key, of which neither suffices alone.
    `auth_time` is a NumericDate.
    """

    client_id: str
    sub: str
    scope: str
    audience: tuple[str, ...]
    grant: str
    seed: str
    acr: str | None = None
    amr: tuple[str, ...] = ()
    auth_time: int | None = None


class AuthorizationCodeIssued(_Event, frozen=True, tag="AuthorizationCodeIssued"):
    """A code was issued for the grant (RFC 6749 §4.1.2), bound to a redirect URI and a challenge (RFC 7636)."""

    expires_at: Time
    code_challenge: str
    redirect_uri: str | None = None
    nonce: str | None = None


class DeviceAuthorizationStarted(_Event, frozen=True, tag="DeviceAuthorizationStarted"):
    """A device requested authorization (RFC 8628 §3.1), and waits for approval. Fields as in `GrantAuthorized`."""

    client_id: str
    scope: str
    audience: tuple[str, ...]
    seed: str
    expires_at: Time


class DeviceAuthorizationDenied(_Event, frozen=True, tag="DeviceAuthorizationDenied"):
    """The person denied the device (RFC 8628 §3.3)."""

    sub: str


class TokenIssued(_Event, frozen=True, tag="TokenIssued"):
    """A token was issued: an access or ID token with its `jti`, or a refresh token with its `generation`.

    `client_id` is the holder of an access token that was exchanged (RFC 8693) or issued besides the latest one. `act`
    lists the earlier actors, and `exchanged_from` the `jti` of each token it derives from; both with the latest first.

    For a refresh token, `key` is the id of its MAC key, `expires_at` its end if it is not redeemed, and
    `family_expires_at` the end of the family, which rotations do not move.
    """

    kind: Literal["access", "refresh", "id"]
    scope: str
    audience: tuple[str, ...]
    expires_at: Time
    jti: str | None = None
    generation: int | None = None
    key: int = 0
    family_expires_at: Time | None = None
    client_id: str | None = None
    act: tuple[str, ...] = ()
    exchanged_from: tuple[str, ...] = ()


class TokenRedeemed(_Event, frozen=True, tag="TokenRedeemed"):
    """A credential was accepted (RFC 6749 §4.1.3, §6).

    `retry` identifies repetitions of the same request (CONTRACT §2). `expires_at` is the new end of a refresh token
    that stays valid after its use (rotation policy `reuse`); `family_expires_at` is as in `TokenRotated`.
    """

    generation: int
    credential: Credential = "refresh_token"
    retry: Retry | None = None
    expires_at: Time | None = None
    family_expires_at: Time | None = None


class TokenRotated(_Event, frozen=True, tag="TokenRotated"):
    """The refresh token was replaced by its next generation (RFC 9700 §4.14.2). Fields as in `TokenIssued`.

    `family_expires_at` is present only if a tightened policy brought it forward.
    """

    from_generation: int
    to_generation: int
    expires_at: Time
    key: int
    family_expires_at: Time | None = None


class TokenReuseDetected(_Event, frozen=True, tag="TokenReuseDetected"):
    """A generation that had already been rotated was presented: somebody holds a copy (RFC 9700 §4.14.2).

    Or a code that had already been redeemed (RFC 6749 §4.1.2), according to `credential`.
    """

    generation: int
    current_generation: int
    client_id: str
    credential: Credential = "refresh_token"


class LateDuplicateRefused(_Event, frozen=True, tag="LateDuplicateRefused"):
    """An older generation was presented with an `Idempotency-Key` that had redeemed it (CONTRACT §3.8).

    So it is a request that came late and not a theft: it was refused, and the family lives. `retry` is as in
    `TokenRedeemed`.
    """

    generation: int
    current_generation: int
    client_id: str
    retry: Retry


class TokenRevoked(_Event, frozen=True, tag="TokenRevoked"):
    """One access token was revoked (RFC 7009 §2.1); the family stays valid.

    From `kept_until` on the token has expired by every clock, and its revocation may be forgotten (ADR 0029). Without
    it, `expires_at` holds.
    """

    jti: str
    expires_at: Time
    reason: RevocationReason = "client_request"
    kept_until: Time | None = None


class FamilyRevoked(_Event, frozen=True, tag="FamilyRevoked"):
    """The family ended: none of its tokens is accepted or active any more."""

    reason: RevocationReason
    cause: str


class ForgeryDetected(_Event, frozen=True, tag="ForgeryDetected"):
    """An authentic token had a generation that was never issued, so a key has leaked."""

    generation: int
    current_generation: int
    client_id: str


FamilyEvent: TypeAlias = (
    GrantAuthorized
    | AuthorizationCodeIssued
    | DeviceAuthorizationStarted
    | DeviceAuthorizationDenied
    | TokenIssued
    | TokenRedeemed
    | TokenRotated
    | TokenReuseDetected
    | LateDuplicateRefused
    | TokenRevoked
    | FamilyRevoked
    | ForgeryDetected
)


_REVOKING = frozenset({TokenReuseDetected, TokenRevoked, FamilyRevoked, ForgeryDetected})


def revokes(events: tuple[FamilyEvent, ...]) -> bool:
    """Whether a commit of these events belongs on the `…revoked` subject.

    That includes the records of presentations after the end, which are part of the incident.
    """
    return not _REVOKING.isdisjoint(map(type, events))
