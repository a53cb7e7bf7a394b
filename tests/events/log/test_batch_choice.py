"""The choice between single appends and batches, with a simulated broker of given speed."""

import pytest

from events.log.batch_choice import MIN_CONCURRENCY, PHASES, TRUST_SECONDS, WINDOW_SECONDS, BatchChoice


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def share_together(
    pace: BatchChoice, time: Time, *, alone: float, together: float, seconds: float, crowd: int = MIN_CONCURRENCY
) -> float:
    """The share of that time spent in batches, with these rates of commits per second."""
    spent, end = 0.0, time.now + seconds
    while time.now < end:
        step = 1 / (together if pace.together else alone)
        spent += step if pace.together else 0
        time.now += step
        pace.acknowledged(1, crowd)
    return spent / seconds


@pytest.mark.parametrize(
    ("alone", "together", "chosen"), [(5_000, 9_000, True), (20_000, 6_000, False), (5_000, 5_100, False)]
)
def test_the_faster_way_is_chosen(alone: float, together: float, chosen: bool) -> None:
    """The other way is tried for a window every few seconds; single appends win a tie."""
    time = Time()
    share = share_together(BatchChoice(time), time, alone=alone, together=together, seconds=10 * TRUST_SECONDS)
    assert share == pytest.approx(float(chosen), abs=len(PHASES) * WINDOW_SECONDS / TRUST_SECONDS)


def test_a_change_of_the_broker_is_noticed() -> None:
    """Its disk became slow: the faster way is found within the time for which a measurement is trusted."""
    time = Time()
    pace = BatchChoice(time)
    share_together(pace, time, alone=20_000, together=6_000, seconds=4 * TRUST_SECONDS)
    share_together(pace, time, alone=1_000, together=6_000, seconds=2 * TRUST_SECONDS)
    assert share_together(pace, time, alone=1_000, together=6_000, seconds=4 * TRUST_SECONDS) > 0.9


def test_few_appends_never_wait_for_each_other() -> None:
    """Below the minimum concurrency batches are not tried."""
    time = Time()
    assert (
        share_together(BatchChoice(time), time, alone=1_000, together=9_000, crowd=MIN_CONCURRENCY - 1, seconds=20) == 0
    )


def test_an_hour_of_silence_is_no_measurement() -> None:
    """Earlier measurements are discarded instead of averaged with nothing."""
    time = Time()
    pace = BatchChoice(time)
    share_together(pace, time, alone=5_000, together=9_000, seconds=4 * TRUST_SECONDS)
    before = pace.together
    time.now += 3600
    pace.acknowledged(1, MIN_CONCURRENCY)
    assert (before, pace.together) == (True, False)
    assert share_together(pace, time, alone=5_000, together=9_000, seconds=4 * TRUST_SECONDS) > 0.9
