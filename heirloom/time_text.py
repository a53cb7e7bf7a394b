"""Times as people write them, for commands and console: `2026-11-20`, `10:03`, `yesterday`, `6h`, RFC 3339."""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_AGO = re.compile(r"(\d{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?")
_WHOLE = re.compile(rf"{_DAY.pattern}[T ]{_TIME.pattern}")
FORMS = "2026-11-20, 2026-11-20T20:31:00Z, 10:03, yesterday, 6h or 1w"


class NoTime(ValueError):
    """The text names no time; the message says what would."""


def parse_time(text: str, now: datetime, zone: tzinfo | None = None, *, end_of_day: bool = False) -> datetime:
    """The time in UTC that `text` names at the time `now`.

    A day is its beginning, with `end_of_day` its last microsecond. `10:03` is the last time that it was so late. What
    names no zone is in `zone`, by default the machine's. Raises `NoTime`.
    """
    try:
        found = _parse(text.strip(), now, zone, end_of_day)
    except ValueError as error:
        raise NoTime(f"{text[:40]!r} is no time; write it like {FORMS}") from error
    except OverflowError as error:
        raise NoTime(f"{text} is longer ago than there is time") from error
    try:
        return _zoned(found, zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise NoTime(f"{text} is out of range: ask for a time within the years 2 to 9998") from error


def _parse(text: str, now: datetime, zone: tzinfo | None, end_of_day: bool) -> datetime:
    """The time, without a zone where `text` names none."""
    today = now.astimezone(zone).date()
    of_day = time.max if end_of_day else time.min
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    if text in ("today", "yesterday"):
        return datetime.combine(today - timedelta(days=text == "yesterday"), of_day)
    if _DAY.fullmatch(text):
        return datetime.combine(date.fromisoformat(text), of_day)
    if _TIME.fullmatch(text):
        asked = time.fromisoformat(text)
        latest = datetime.combine(now.astimezone(asked.tzinfo or zone).date(), asked)
        return latest if _zoned(latest, zone) <= now else latest - timedelta(days=1)
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def _zoned(found: datetime, zone: tzinfo | None) -> datetime:
    """The time in that zone, or in the machine's, unless it has one of its own."""
    if found.tzinfo is not None:
        return found
    return found.astimezone() if zone is None else found.replace(tzinfo=zone)
