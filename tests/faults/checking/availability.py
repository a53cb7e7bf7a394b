"""When the service was back after the last fault, and how much of what was asked since then it answered: pure."""

from collections.abc import Sequence

from tests.faults.checking.log_checker import Violation
from tests.faults.history import NEVER, Operation

AVAILABLE = 0.99
FULL_SERVICE_SECONDS = 1.2
"""For so long every request must have been answered, to call it full service."""
PENDING_SECONDS = 0.5
"""A request that has waited longer may be one that nobody will answer: sent to a process that is dead by now."""
FEW = 20
"""So few answers say nothing yet."""


def full_service(operations: Sequence[Operation], since: float, now: float) -> bool:
    """Whether, of what began after `since` and in the last `FULL_SERVICE_SECONDS`, nothing is without an answer."""
    start = now - FULL_SERVICE_SECONDS
    if start < since:
        return False
    recent = [operation for operation in operations if operation.began > start]
    waiting = (operation for operation in recent if operation.outcome == "info")
    lost = any(operation.error is not None or operation.began < now - PENDING_SECONDS for operation in waiting)
    return not lost and sum(operation.ended < NEVER for operation in recent) > FEW


def known(operations: Sequence[Operation]) -> list[Operation]:
    """Those that do not wait any more, answered or not."""
    return [operation for operation in operations if operation.ended < NEVER or operation.error is not None]


def availability(operations: Sequence[Operation], since: float) -> list[Violation]:
    """What began after `since` was answered, but for one in a hundred."""
    late = [operation for operation in operations if operation.began > since]
    lost = [operation for operation in late if operation.outcome == "info"]
    if late and len(late) - len(lost) >= AVAILABLE * len(late):
        return []
    named = "; ".join(f"{one.why} {one.id} at {one.began:.2f} s: {one.error}" for one in lost[:5])
    where = f"{len(late) - len(lost)} of {len(late)} since {since:.2f} s: {named}"
    return [Violation("99 % are answered within 30 s after the last fault", where)]
