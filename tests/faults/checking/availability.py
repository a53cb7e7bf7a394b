"""When the service was available again after the last fault, and which share of requests got a reply: pure."""

from collections.abc import Sequence

from tests.faults.checking.log_checker import Violation
from tests.faults.history import NEVER, Operation

AVAILABLE = 0.99
FULL_SERVICE_SECONDS = 1.2
"""In full service every request of this many seconds got a reply."""
PENDING_SECONDS = 0.5
"""A request that has waited longer may never get a reply: its receiver may be dead."""
FEW = 20
"""Fewer replies are not conclusive."""


def full_service(operations: Sequence[Operation], since: float, now: float) -> bool:
    """Whether, of the requests after `since` and of the last `FULL_SERVICE_SECONDS`, none is without a reply."""
    start = now - FULL_SERVICE_SECONDS
    if start < since:
        return False
    recent = [operation for operation in operations if operation.began > start]
    waiting = (operation for operation in recent if operation.outcome == "info")
    lost = any(operation.error is not None or operation.began < now - PENDING_SECONDS for operation in waiting)
    return not lost and sum(operation.ended < NEVER for operation in recent) > FEW


def known(operations: Sequence[Operation]) -> list[Operation]:
    """The completed operations, with a reply or without one."""
    return [operation for operation in operations if operation.ended < NEVER or operation.error is not None]


def availability(operations: Sequence[Operation], since: float) -> list[Violation]:
    """A violation if more than one in a hundred requests after `since` got no reply."""
    late = [operation for operation in operations if operation.began > since]
    lost = [operation for operation in late if operation.outcome == "info"]
    if late and len(late) - len(lost) >= AVAILABLE * len(late):
        return []
    named = "; ".join(f"{one.why} {one.id} at {one.began:.2f} s: {one.error}" for one in lost[:5])
    where = f"{len(late) - len(lost)} of {len(late)} since {since:.2f} s: {named}"
    return [Violation("99 % are answered within 30 s after the last fault", where)]
