"""A person's cut-offs: the aggregate `tokens.<tenant>.subject.<digest of sub>`.

These facts hold for all of a person's families. The first commit of a family is appended only if no newer commit of
this aggregate exists (`service.families.families`), so the log orders every beginning before or after every cut-off.
"""

from typing import TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from events.aggregates.commit import Codec, Commit


class _Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """`sub` is in clear here, as the NATS subject contains only its digest. `reason` is in the operator's words."""

    sub: str


class SubjectBlocked(_Event, frozen=True, tag="SubjectBlocked"):
    """The person was blocked: no tokens are issued for them any more, and all existing ones are void."""

    reason: str | None = None


class SubjectUnblocked(_Event, frozen=True, tag="SubjectUnblocked"):
    """The person was unblocked: families may begin again; void tokens stay void."""

    reason: str | None = None


class SubjectTokensRevoked(_Event, frozen=True, tag="SubjectTokensRevoked"):
    """All families of the person that began before this are void."""

    reason: str | None = None


class ConsentWithdrawn(_Event, frozen=True, tag="ConsentWithdrawn"):
    """The person's families with this client that began before this are void."""

    client_id: str
    reason: str | None = None


SubjectEvent: TypeAlias = SubjectBlocked | SubjectUnblocked | SubjectTokensRevoked | ConsentWithdrawn


class SubjectState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether families may begin. Other cut-offs leave no state, as they concern only earlier families."""

    sub: str
    blocked: bool = False


SubjectCommit: TypeAlias = Commit[SubjectEvent, SubjectState]
codec: Codec[SubjectEvent, SubjectState] = Codec(SubjectCommit)


def evolve(state: SubjectState | None, event: SubjectEvent) -> SubjectState:
    """The state after `event`. Raises `ValueError` for an event about another person."""
    before = state or SubjectState(event.sub)
    if before.sub != event.sub:
        raise ValueError("one aggregate is about one person")
    match event:
        case SubjectBlocked():
            return replace(before, blocked=True)
        case SubjectUnblocked():
            return replace(before, blocked=False)
        case SubjectTokensRevoked() | ConsentWithdrawn():
            return before
        case _:
            assert_never(event)
