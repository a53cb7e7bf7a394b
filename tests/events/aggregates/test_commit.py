"""Commits, and the names of events in them."""

import msgspec

from events.aggregates.commit import type_of
from events.aggregates.family_events import FamilyRevoked


class Renamed(msgspec.Struct, frozen=True, tag_field="type", tag="TokenRotated"):
    """A class whose name in code differs from its name in the log."""


def test_an_event_is_named_by_its_tag() -> None:
    """A class may be renamed; its name in the log and in replies may not."""
    assert type_of(Renamed()) == type_of(Renamed) == "TokenRotated"
    assert type_of(FamilyRevoked("operator", "")) == "FamilyRevoked"
