"""Token buckets: a burst of one second, then the rate, in bounded memory."""

from events.fairness.token_buckets import Bucket, Buckets
from service.refusal import too_many


def test_one_second_at_once_and_then_the_rate() -> None:
    """At ten a second: ten at once, one after a tenth of a second, and ten again after a long rest."""
    bucket = Bucket()
    assert [bucket.try_take(10, 100.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [bucket.try_take(10, 100.125) for _ in range(2)] == [True, False]
    assert [bucket.try_take(10, 9999.0) for _ in range(11)] == [True] * 10 + [False]


def test_any_time_admits_at_most_its_rate_and_one_second() -> None:
    bucket = Bucket()
    assert sum(bucket.try_take(5, moment / 64) for moment in range(640)) <= 5 * 10 + 5


def test_what_is_owed_is_waited_for() -> None:
    """At ten a second: after one request and twelve owed ones, half a second later it is still not paid off."""
    bucket = Bucket()
    assert bucket.try_take(10, 100.0)
    for _ in range(12):
        bucket.owe()
    assert not bucket.try_take(10, 100.375)
    assert [bucket.try_take(10, 100.5) for _ in range(3)] == [True, True, False]


def test_a_lower_rate_applies_at_once() -> None:
    """What accumulated under a higher one is lost."""
    bucket = Bucket()
    assert bucket.try_take(100, 1.0)
    assert [bucket.try_take(2, 1.0) for _ in range(3)] == [True, True, False]


def test_the_most_recent_requesters_are_kept() -> None:
    """Memory is bounded, and creating many requesters resets no active one."""
    buckets = Buckets(size=2)
    first, second = buckets.of("a"), buckets.of("b")
    assert buckets.of("a") is first
    buckets.of("c")
    assert buckets.of("a") is first and buckets.of("b") is not second


def test_nobody_gains_by_forgotten_buckets() -> None:
    """As long as more are kept than ask within a second, a forgotten one was full."""
    buckets, rate, allowed = Buckets(size=100), 5, 0
    for moment in range(640):  # ten seconds; 64 others a second, a new one each time
        now = moment / 64
        buckets.of(moment).try_take(rate, now)
        allowed += buckets.of("thief").try_take(rate, now)
    assert allowed <= 10 * rate + rate


def test_the_refusal_of_a_rate() -> None:
    """CONTRACT §2: `slow_down` with 429."""
    refusal = too_many("client")
    assert refusal.headers() == {"Nats-Service-Error": "slow_down", "Nats-Service-Error-Code": "429"}
