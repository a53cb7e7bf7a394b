"""How a family's commit is written: what the rest of the commit determines is left out (CONTRACT §6, ADR 0047).

`codec` encodes whole commits and decodes them whole again; only this module knows the short form:

- The `actor` is left out if it is the family's client.
- `TokenIssued` leaves out the scope and audience of the grant (`openid` and the client of an ID token), the kind
  `access`, and a `jti` that is the commit's id.
- `TokenRotated` leaves out the generation that the commit redeemed, and the next one. `TokenRedeemed` leaves out the
  credential `refresh_token`.
- Both have `expires_in`, a duration from the commit's time on (ISO 8601), in place of `expires_at`.
- The state leaves out what `TokenRedeemed`, `TokenRotated` and `TokenIssued` of the same commit set.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from events.aggregates.commit import Codec, Commit, Time, UnreadableCommit, later, read
from events.aggregates.family import AccessToken, FamilyCommit, FamilyState
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    LateDuplicateRefused,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)


class _Written(msgspec.Struct, frozen=True, gc=False, tag_field="type", omit_defaults=True):
    """An event in its short form. Fields that are `UNSET` are left out."""


class _Issued(_Written, frozen=True, tag="TokenIssued"):
    """`TokenIssued`. A refresh token has no `jti`; for other tokens null is none."""

    expires_in: timedelta
    kind: Literal["access", "refresh", "id"] = "access"
    scope: str | UnsetType = UNSET
    audience: tuple[str, ...] | UnsetType = UNSET
    jti: str | UnsetType | None = UNSET
    generation: int | None = None
    key: int = 0
    family_expires_at: Time | None = None
    client_id: str | None = None
    act: tuple[str, ...] = ()
    exchanged_from: tuple[str, ...] = ()


class _Rotated(_Written, frozen=True, tag="TokenRotated"):
    """`TokenRotated`."""

    expires_in: timedelta
    key: int
    from_generation: int | UnsetType = UNSET
    to_generation: int | UnsetType = UNSET
    family_expires_at: Time | None = None


_WrittenEvent: TypeAlias = (
    GrantAuthorized
    | AuthorizationCodeIssued
    | DeviceAuthorizationStarted
    | DeviceAuthorizationDenied
    | _Issued
    | TokenRedeemed
    | _Rotated
    | TokenReuseDetected
    | LateDuplicateRefused
    | TokenRevoked
    | FamilyRevoked
    | ForgeryDetected
)


class _WrittenCommit(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """`Commit` in its short form: without an `actor` it is the family's client."""

    v: int
    id: str
    at: Time
    actor: str | UnsetType = UNSET
    prev: str | None
    prev_seq: int
    events: tuple[_WrittenEvent, ...]
    state: FamilyState
    aggregate: str | None = None


class FamilyCodec(Codec[FamilyEvent, FamilyState]):
    """Encodes and decodes the commits of families."""

    def __init__(self) -> None:
        super().__init__(FamilyCommit)
        self.written_event = _WrittenEvent
        self._written = msgspec.json.Decoder(_WrittenCommit)

    def encode(self, commit: FamilyCommit) -> bytes:
        """Encode a commit in the short form."""
        state, actor = commit.state, commit.actor
        written: list[Any] = [_SHORTER[type(e)](e, commit) if type(e) in _SHORTER else e for e in commit.events]
        short = _WrittenCommit(
            v=commit.v,
            id=commit.id,
            at=commit.at,
            actor=UNSET if actor == f"client:{state.client_id}" else actor,
            prev=commit.prev,
            prev_seq=commit.prev_seq,
            events=tuple(written),
            state=replace(state, **_left_out(commit.events)),
            aggregate=commit.aggregate,
        )
        return self._encoder.encode(short)

    def decode(self, body: bytes) -> FamilyCommit:
        """Decode a message body. Raises `UnreadableCommit` as `Codec.decode` does."""
        commit = read(self._written, body)
        at, state = commit.at, commit.state
        try:
            events = _whole(commit, state)
        except ValueError as error:
            raise UnreadableCommit(str(error)) from error
        actor = f"client:{state.client_id}" if commit.actor is UNSET else commit.actor
        state = replace(state, **_set_by(events, at))
        prev, prev_seq = commit.prev, commit.prev_seq
        return Commit(commit.v, commit.id, at, actor, prev, prev_seq, events, state, commit.aggregate)

    def whole_events(self, commit: Any, before: FamilyState | None) -> tuple[FamilyEvent, ...]:
        """The events of an unfolded commit, whole. Raises `ValueError`."""
        grant: Any = before
        for event in commit.events:
            if type(event) in _GRANTS:
                grant = event
        return _whole(commit, grant)

    def without_events(self, state: FamilyState, events: tuple[FamilyEvent, ...]) -> FamilyState:
        """The state as it is written in a commit of these events."""
        return replace(state, **_left_out(events))


_GRANTS = {GrantAuthorized, DeviceAuthorizationStarted}
codec = FamilyCodec()


def _shorten_issued(event: TokenIssued, commit: FamilyCommit) -> _Issued:
    kind, jti = event.kind, event.jti
    scope, audience = _usual(kind, commit.state)
    return _Issued(
        event.expires_at - commit.at,
        kind,
        UNSET if event.scope == scope else event.scope,
        UNSET if event.audience == audience else event.audience,
        UNSET if jti == (None if kind == "refresh" else commit.id) else jti,
        event.generation,
        event.key,
        event.family_expires_at,
        event.client_id,
        event.act,
        event.exchanged_from,
    )


def _shorten_rotated(event: TokenRotated, commit: FamilyCommit) -> _Rotated:
    start, end = event.from_generation, event.to_generation
    return _Rotated(
        event.expires_at - commit.at,
        event.key,
        UNSET if start == _redeemed(commit.events) else start,
        UNSET if end == start + 1 else end,
        event.family_expires_at,
    )


_SHORTER: dict[type, Callable[[Any, FamilyCommit], _WrittenEvent]] = {
    TokenIssued: _shorten_issued,
    TokenRotated: _shorten_rotated,
}


def _usual(kind: str, grant: Any) -> tuple[str, tuple[str, ...]]:
    """The scope and audience of most tokens of that kind."""
    return ("openid", (grant.client_id,)) if kind == "id" else (grant.scope, grant.audience)


def _redeemed(events: Iterable[FamilyEvent | _WrittenEvent]) -> int | None:
    """The generation that a commit of these events redeemed first."""
    for event in events:
        if type(event) is TokenRedeemed:
            return event.generation
    return None


def _whole(commit: Any, grant: Any) -> tuple[FamilyEvent, ...]:
    """The events of a commit, whole. `grant` has the family's scope and audience. Raises `ValueError`."""
    return tuple(
        [event if type(event) not in _WHOLE else _WHOLE[type(event)](event, commit, grant) for event in commit.events]
    )


def _whole_issued(event: _Issued, commit: Any, grant: Any) -> TokenIssued:
    if grant is None:
        raise ValueError("a family begins with a grant")
    jti = event.jti
    scope, audience = _usual(event.kind, grant)
    return TokenIssued(
        event.kind,
        scope if event.scope is UNSET else event.scope,
        audience if event.audience is UNSET else event.audience,
        later(commit.at, event.expires_in),
        (None if event.kind == "refresh" else commit.id) if jti is UNSET else jti,
        event.generation,
        event.key,
        event.family_expires_at,
        event.client_id,
        event.act,
        event.exchanged_from,
    )


def _whole_rotated(event: _Rotated, commit: Any, _grant: Any) -> TokenRotated:
    start = _redeemed(commit.events) if event.from_generation is UNSET else event.from_generation
    if start is None:
        raise ValueError("it rotates a generation and does not say which")
    end = start + 1 if event.to_generation is UNSET else event.to_generation
    return TokenRotated(start, end, later(commit.at, event.expires_in), event.key, event.family_expires_at)


_WHOLE: dict[type, Callable[[Any, Any, Any], FamilyEvent]] = {_Issued: _whole_issued, _Rotated: _whole_rotated}


def _set_by(events: tuple[FamilyEvent, ...], at: datetime) -> dict[str, Any]:
    """The fields of the state that a commit's redemption and new tokens set, as `evolve` sets them."""
    fields: dict[str, Any] = {}
    for event in events:
        if type(event) is TokenIssued:
            if event.kind == "access" and event.client_id is None and event.jti is not None:
                fields["access"] = AccessToken(event.jti, event.scope, event.audience, at, event.expires_at)
            elif event.kind == "refresh":
                fields["generation"], fields["key"], fields["expires_at"] = 0, event.key, event.expires_at
        elif type(event) is TokenRotated:
            fields["generation"], fields["key"] = event.to_generation, event.key
            fields["expires_at"] = event.expires_at
        elif type(event) is TokenRedeemed:
            fields["redeemed_at"], fields["retry"] = at, event.retry
            if event.expires_at is not None:
                fields["expires_at"] = event.expires_at
    return fields


_REDEEMED: dict[str, Any] = {"redeemed_at": None, "retry": None}
_REFRESH: dict[str, Any] = {"generation": None, "key": 0, "expires_at": None}
_EXPIRY: dict[str, Any] = {"expires_at": None}
_ACCESS: dict[str, Any] = {"access": None}


def _left_out(events: tuple[FamilyEvent, ...]) -> dict[str, Any]:
    """The same fields with their defaults, which are not written."""
    fields: dict[str, Any] = {}
    for event in events:
        if type(event) is TokenIssued:
            if event.kind == "access" and event.client_id is None and event.jti is not None:
                fields |= _ACCESS
            elif event.kind == "refresh":
                fields |= _REFRESH
        elif type(event) is TokenRotated:
            fields |= _REFRESH
        elif type(event) is TokenRedeemed:
            fields |= _REDEEMED
            if event.expires_at is not None:
                fields |= _EXPIRY
    return fields
