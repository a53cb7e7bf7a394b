"""Counters of the events that were appended to families. They are plain integers: a refresh pays a microsecond."""

from collections.abc import Iterable
from typing import assert_never, get_args

from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    Credential,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    LateDuplicateRefused,
    RevocationReason,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)


class FamilyCounters:
    """Tokens `issued` by kind, credentials `redeemed` by kind, families `revoked` by reason.

    Every possible label is there from the start. `conflicts` counts appends that another commit came before.
    """

    def __init__(self) -> None:
        self.issued: dict[str, int] = {"access": 0, "refresh": 0, "id": 0}
        self.redeemed: dict[str, int] = dict.fromkeys(get_args(Credential), 0)
        self.revoked: dict[str, int] = dict.fromkeys(get_args(RevocationReason), 0)
        self.rotated = 0
        self.reused = 0
        self.late_duplicates = 0
        self.forged = 0
        self.conflicts = 0

    def committed(self, events: Iterable[FamilyEvent]) -> None:
        """Count one commit's events."""
        for event in events:
            match event:
                case TokenIssued():
                    self.issued[event.kind] += 1
                case TokenRotated():
                    self.rotated += 1
                    self.issued["refresh"] += 1  # the successor
                case TokenRedeemed():
                    self.redeemed[event.credential] += 1
                case FamilyRevoked():
                    self.revoked[event.reason] += 1
                case TokenReuseDetected():
                    self.reused += 1
                case LateDuplicateRefused():
                    self.late_duplicates += 1
                case ForgeryDetected():
                    self.forged += 1
                case GrantAuthorized() | AuthorizationCodeIssued() | TokenRevoked():
                    pass
                case DeviceAuthorizationStarted() | DeviceAuthorizationDenied():
                    pass
                case _:
                    assert_never(event)
