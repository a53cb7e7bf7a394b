"""What has been committed to families, counted: plain integers, so that a refresh pays less than a microsecond."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from events.family import FamilyEvent, FamilyRevoked, TokenIssued, TokenRedeemed

_WHICH: dict[type, Callable[[Any], str]] = {
    TokenIssued: attrgetter("kind"),
    TokenRedeemed: attrgetter("credential"),
    FamilyRevoked: attrgetter("reason"),
}
"""What is counted apart within one type of event. Never anything a client can choose."""


class Tally:
    """`events` by type and what is told apart within it; `conflicts` are commits that others were faster than."""

    def __init__(self) -> None:
        self.events: defaultdict[tuple[type, str], int] = defaultdict(int)
        self.conflicts = 0

    def committed(self, events: Iterable[FamilyEvent]) -> None:
        """Count one commit's events."""
        for event in events:
            which = _WHICH.get(kind := event.__class__)
            self.events[kind, which(event) if which is not None else ""] += 1

    def of(self, kind: type) -> dict[str, int]:
        """The counts of one type of event."""
        return {which: count for (counted, which), count in self.events.items() if counted is kind}
