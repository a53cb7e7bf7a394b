"""Times in the log."""

import msgspec

from service import clock


def test_a_numeric_date_is_encoded_with_microseconds() -> None:
    """CONTRACT §1: all times in the log have them."""
    moment = clock.of(1_700_000_000)
    assert msgspec.json.encode(moment) == b'"2023-11-14T22:13:20.000001Z"'
    assert int(moment.timestamp()) == 1_700_000_000
