"""A person's cut-offs: the aggregate `tokens.<tenant>.subject.<digest of sub>`.

What is true of a person whatever family a token belongs to. A family may only begin on the newest commit of this
aggregate (`service.families.families`), so the log itself orders every beginning before or after every cut-off.
"""

from typing import TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from events.aggregates.commit import Codec, Commit


class _Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """`sub` is the person in clear, since the NATS subject has only a digest. `reason` is in the operator's words."""

    sub: str


class SubjectBlocked(_Event, frozen=True, tag="SubjectBlocked"):
    """Nothing is issued for the person any more, and what there is is void."""

    reason: str | None = None


class SubjectUnblocked(_Event, frozen=True, tag="SubjectUnblocked"):
    """Families may begin again; what was voided stays void."""

    reason: str | None = None


class SubjectTokensRevoked(_Event, frozen=True, tag="SubjectTokensRevoked"):
    """Every family that began before this is void."""

    reason: str | None = None


class ConsentWithdrawn(_Event, frozen=True, tag="ConsentWithdrawn"):
    """Every family of this client that began before this is void."""

    client_id: str
    reason: str | None = None


SubjectEvent: TypeAlias = SubjectBlocked | SubjectUnblocked | SubjectTokensRevoked | ConsentWithdrawn


class SubjectState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether families may begin. What is cut off once leaves no state: it concerns what came before it."""

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
