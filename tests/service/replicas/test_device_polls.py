"""The interval of a polling device, with requests that take a while to arrive."""

import random
from itertools import pairwise

import pytest

from service.decide.device_authorization import INTERVAL_SECONDS
from service.replicas.device_polls import MAX_INTERVAL_SECONDS, judge


def answers(gaps: list[float]) -> tuple[int, int]:
    """The number of early polls with these gaps, and the interval after them."""
    interval, early = INTERVAL_SECONDS, 0
    for gap in gaps:
        is_early, interval = judge(gap, interval)
        early += is_early
    return early, interval


@pytest.mark.parametrize("seed", range(20))
def test_a_device_that_keeps_the_interval_is_never_early(seed: int) -> None:
    """RFC 8628 §3.2, §3.5: it counts from request to request, and each takes a while to arrive."""
    chance = random.Random(seed)
    sent = [number * INTERVAL_SECONDS + chance.uniform(0, 0.9) for number in range(50)]
    assert answers([later - earlier for earlier, later in pairwise(sent)]) == (0, INTERVAL_SECONDS)


def test_an_early_device_waits_longer_and_recovers() -> None:
    """RFC 8628 §3.5: each early poll adds 5 seconds, up to a bound; each timely one removes 5."""
    assert answers([1]) == (1, 10)
    assert answers([1, 1, 1]) == (3, 20)
    assert answers([1] * 100) == (100, MAX_INTERVAL_SECONDS)
    assert answers([1, 10, 5, 5]) == (1, INTERVAL_SECONDS)
    assert answers([1, 1, 15, 10, 5]) == (2, INTERVAL_SECONDS)
    assert answers([3.9, 8.9]) == (2, 15)
