"""Token buckets: a second's worth at once, the rate from then on, in bounded memory."""

from events.fairness.token_buckets import Bucket, Buckets
from service.registry.rate_limit import too_many


def test_a_second_at_once_and_then_the_rate() -> None:
    """Ten a second: ten at once, none more, one after a tenth of a second, ten after a long rest."""
    bucket = Bucket()
    assert [bucket.takes(10, 100.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [bucket.takes(10, 100.125) for _ in range(2)] == [True, False]
    assert [bucket.takes(10, 9999.0) for _ in range(11)] == [True] * 10 + [False]


def test_over_any_time_no_more_than_the_rate_and_one_second() -> None:
    """However the requests are spread."""
    bucket = Bucket()
    assert sum(bucket.takes(5, moment / 64) for moment in range(640)) <= 5 * 10 + 5


def test_a_lower_rate_holds_at_once() -> None:
    """What was saved up under a higher one is gone."""
    bucket = Bucket()
    assert bucket.takes(100, 1.0)
    assert [bucket.takes(2, 1.0) for _ in range(3)] == [True, True, False]


def test_who_asked_last_is_remembered() -> None:
    """Memory is bounded, however many askers there are; and those who make many are not a way to begin anew."""
    buckets = Buckets(size=2)
    first, second = buckets.of("a"), buckets.of("b")
    assert buckets.of("a") is first
    buckets.of("c")
    assert buckets.of("a") is first and buckets.of("b") is not second


def test_nobody_asks_more_by_having_others_forgotten() -> None:
    """While fewer ask in a second than are kept, whoever is forgotten had a full bucket."""
    buckets, rate, allowed = Buckets(size=100), 5, 0
    for moment in range(640):  # ten seconds; 64 others a second, a new one each time
        now = moment / 64
        buckets.of(moment).takes(rate, now)
        allowed += buckets.of("thief").takes(rate, now)
    assert allowed <= 10 * rate + rate


def test_the_refusal() -> None:
    """CONTRACT §2: `slow_down` with 429."""
    refusal = too_many("client")
    assert refusal.headers() == {"Nats-Service-Error": "slow_down", "Nats-Service-Error-Code": "429"}
