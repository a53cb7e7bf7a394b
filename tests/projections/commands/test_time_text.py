"""Times as people write them, at half past three in the night of a Tuesday in Berlin."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heirloom.time_text import NoTime, parse_time

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 3, 3, 30, tzinfo=BERLIN)


def utc(*numbers: int) -> datetime:
    """A time in 2026."""
    return datetime(2026, *numbers, tzinfo=UTC)  # type: ignore[arg-type,misc]  # month, day and what follows


@pytest.mark.parametrize(
    ("text", "found", "last"),
    [
        ("2026-03-01", utc(2, 28, 23), utc(3, 1, 22, 59, 59, 999_999)),
        ("today", utc(3, 2, 23), utc(3, 3, 22, 59, 59, 999_999)),
        ("yesterday", utc(3, 1, 23), utc(3, 2, 22, 59, 59, 999_999)),
        ("2026-03-30", utc(3, 29, 22), utc(3, 30, 21, 59, 59, 999_999)),  # summer time
        ("03:29", utc(3, 3, 2, 29), None),
        ("03:31", utc(3, 2, 2, 31), None),  # of yesterday: today's is yet to come
        ("03:30:00.5", utc(3, 2, 2, 30, 0, 500_000), None),
        ("02:00Z", utc(3, 3, 2), None),
        ("23:00+14:00", utc(3, 2, 9), None),
        ("15:00+14:00", utc(3, 3, 1), None),  # there it is the afternoon of the 3rd
        ("2026-02-01T10:03", utc(2, 1, 9, 3), None),
        ("2026-02-01 10:03", utc(2, 1, 9, 3), None),
        ("2026-02-01T10:03:00.25+05:00", utc(2, 1, 5, 3, 0, 250_000), None),
        (" 90s ", utc(3, 3, 2, 28, 30), None),
        ("1w", utc(2, 24, 2, 30), None),
    ],
)
def test_what_people_write(text: str, found: datetime, last: datetime | None) -> None:
    """In their own zone, unless they name one; a day has a beginning and an end."""
    assert parse_time(text, NOW, BERLIN) == found
    assert parse_time(text, NOW, BERLIN, end_of_day=True) == (last or found)


@given(st.text(max_size=30))
def test_anything_else_is_refused_in_words(text: str) -> None:
    """Whatever it is: a time in UTC, or an error that shows how a time is written."""
    try:
        assert parse_time(text, NOW, BERLIN).tzinfo is UTC
    except NoTime as error:
        assert "20" in str(error) or "ago" in str(error)


@given(st.integers(0, 4_000_000_000_000_000))
def test_every_rfc_3339_time_is_read(microseconds: int) -> None:
    """To the microsecond."""
    moment = datetime(1971, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert parse_time(moment.isoformat(), NOW, BERLIN) == moment
    assert parse_time(f"{moment:%H:%M}Z", moment, BERLIN) == moment.replace(second=0, microsecond=0)
    assert moment - parse_time("3h", moment) == timedelta(hours=3)
