"""When the service counts as available again: one lost request is enough against it."""

import pytest

from tests.faults.checking.availability import availability, full_service, known
from tests.faults.history import NEVER, Operation, Outcome


def answered(began: float, outcome: Outcome = "ok") -> Operation:
    """An operation with a reply after a tenth of a second."""
    return Operation(1, "refresh", began, began + 0.1, outcome, why="refresh")


def lost(began: float, error: str | None = None) -> Operation:
    """An operation without a reply, or refused for now."""
    return Operation(2, "refresh", began, NEVER, why="retry", error=error)


WELL = [answered(10 + number / 20) for number in range(40)]
"""Twenty a second from 10.0 to 12.0 s."""


def test_full_service_needs_a_stretch_of_replies() -> None:
    """A refusal for good counts as a reply."""
    assert full_service(WELL, since=10.5, now=12)
    assert full_service([*WELL, answered(11.9, "fail")], since=10.5, now=12)


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        (WELL[:20], "nothing is asked any more"),
        ([*WELL, lost(11.9, "temporarily_unavailable")], "one was refused for now"),
        ([*WELL, lost(11.2)], "one has been waiting"),
    ],
)
def test_one_request_without_a_reply_is_no_full_service(operations: list[Operation], why: str) -> None:
    """Neither are too few requests, a refusal for now, or a request that waits too long."""
    assert not full_service(operations, since=10.5, now=12), why


def test_a_new_request_may_wait_and_an_older_loss_does_not_count() -> None:
    assert full_service([*WELL, lost(11.9), lost(10.7, "TimeoutError")], since=10.5, now=12)


def test_full_service_takes_its_time_after_the_fault() -> None:
    assert not full_service(WELL, since=11, now=12)


def test_one_in_a_hundred_may_be_lost() -> None:
    """If more are, the violation names them."""
    many = WELL * 5
    assert availability([*many, lost(11), lost(11.5), lost(9)], since=9.9) == []
    (violation,) = availability([*many, *[lost(11, "TimeoutError")] * 3], since=9.9)
    assert violation.where == "200 of 203 since 9.90 s: " + "; ".join(["retry 2 at 11.00 s: TimeoutError"] * 3)
    assert availability([], since=0), "no requests prove nothing"


def test_pending_requests_count_later() -> None:
    """Full service did not last if requests that were pending then get no reply."""
    waiting = [lost(11.9) for _ in range(3)]
    assert full_service([*WELL, *waiting], since=10.5, now=12)
    assert availability(known([*WELL, *waiting]), since=10.8) == []
    for operation in waiting:
        operation.error = "temporarily_unavailable"
    assert availability(known([*WELL, *waiting]), since=10.8)
