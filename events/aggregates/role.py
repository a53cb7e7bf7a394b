"""Named credentials of a role: the aggregate `tokens.<tenant>.role.<name>`."""

from typing import Literal, TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from events.aggregates.commit import Codec, Commit

RoleKind: TypeAlias = Literal["operator", "auditor", "edge", "resource"]


class _Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    pass


class RoleAdded(_Event, frozen=True, tag="RoleAdded"):
    """Credentials for a role in this tenant were added; only the digest of the secret is stored."""

    role: RoleKind
    secret_hash: str


class RoleRevoked(_Event, frozen=True, tag="RoleRevoked"):
    """The credentials were revoked, and connections that used them were closed."""

    reason: str | None = None


RoleEvent: TypeAlias = RoleAdded | RoleRevoked


class RoleState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The role, and whether the credentials are revoked. A revoked name may be added again with a new secret."""

    role: RoleKind
    secret_hash: str
    revoked: bool = False


RoleCommit: TypeAlias = Commit[RoleEvent, RoleState]
codec: Codec[RoleEvent, RoleState] = Codec(RoleCommit)


def evolve(state: RoleState | None, event: RoleEvent) -> RoleState:
    """The state after `event`. Raises `ValueError` for an event that cannot be the next one."""
    match event:
        case RoleAdded():
            if state is not None and not state.revoked:
                raise ValueError("a role is added that there is")
            return RoleState(event.role, event.secret_hash)
        case RoleRevoked():
            if state is None or state.revoked:
                raise ValueError("a role is revoked that there is not")
            return replace(state, revoked=True)
        case _:
            assert_never(event)
