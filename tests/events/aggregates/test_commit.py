"""The commit, and what an event is called in it."""

import msgspec

from events.aggregates.commit import type_of
from events.aggregates.family import FamilyRevoked


class Renamed(msgspec.Struct, frozen=True, tag_field="type", tag="TokenRotated"):
    """A class that the code calls otherwise than the log."""


def test_an_event_is_called_by_its_tag() -> None:
    """A class may be renamed; what lies in the log, and what is answered of it, may not."""
    assert type_of(Renamed()) == type_of(Renamed) == "TokenRotated"
    assert type_of(FamilyRevoked("operator", "")) == "FamilyRevoked"
