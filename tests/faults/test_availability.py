"""When the service counts as back: one lost request tells otherwise, however well the others fare."""

import pytest

from tests.faults.checking.availability import availability, full_service, known
from tests.faults.history import NEVER, Operation, Outcome


def answered(began: float, outcome: Outcome = "ok") -> Operation:
    """Within a tenth of a second."""
    return Operation(1, "refresh", began, began + 0.1, outcome, why="refresh")


def lost(began: float, error: str | None = None) -> Operation:
    """Nobody has answered, or said that they cannot."""
    return Operation(2, "refresh", began, NEVER, why="retry", error=error)


WELL = [answered(10 + number / 20) for number in range(40)]
"""Twenty a second from 10.0 to 12.0 s."""


def test_full_service_is_a_stretch_of_answers() -> None:
    """Whatever they say: a refusal that is the right answer is one."""
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
def test_it_is_not_full_service_while_one_goes_without(operations: list[Operation], why: str) -> None:
    """Silence, a refusal for now, and a request that waits are each a sign against it."""
    assert not full_service(operations, since=10.5, now=12), why


def test_a_request_just_sent_may_wait_and_an_older_loss_is_over() -> None:
    """What is told of the stretch is told by what lies in it."""
    assert full_service([*WELL, lost(11.9), lost(10.7, "TimeoutError")], since=10.5, now=12)


def test_it_is_not_full_service_so_soon_after_the_fault() -> None:
    """A stretch has its length."""
    assert not full_service(WELL, since=11, now=12)


def test_one_in_a_hundred_may_be_lost() -> None:
    """And when more are, the violation names them."""
    many = WELL * 5
    assert availability([*many, lost(11), lost(11.5), lost(9)], since=9.9) == []
    (violation,) = availability([*many, *[lost(11, "TimeoutError")] * 3], since=9.9)
    assert violation.where == "200 of 203 since 9.90 s: " + "; ".join(["retry 2 at 11.00 s: TimeoutError"] * 3)
    assert availability([], since=0), "nothing asked is nothing shown"


def test_what_still_waits_tells_later() -> None:
    """Full service did not last when those that were waiting then go without."""
    waiting = [lost(11.9) for _ in range(3)]
    assert full_service([*WELL, *waiting], since=10.5, now=12)
    assert availability(known([*WELL, *waiting]), since=10.8) == []
    for operation in waiting:
        operation.error = "temporarily_unavailable"
    assert availability(known([*WELL, *waiting]), since=10.8)
