"""A time, or a sequence of the log, as a parameter on the command line."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

from heirloom.moment import Moment

_BEGINNING, _END = "00:00:00", "23:59:59.999999"
_SEQUENCE = re.compile(r"[0-9]{1,100}")
"""More digits than any sequence has, so that the service reports which sequences exist."""


class TimeParam(click.ParamType[datetime]):
    """An RFC 3339 time, a day, or how long ago: `90s`, `30m`, `6h`, `2d`.

    A day is its beginning; with `end_of_day` its last microsecond, for an option that includes the day it names.
    """

    name = "time"

    def __init__(self, *, end_of_day: bool = False) -> None:
        self._time_of_day = _END if end_of_day else _BEGINNING

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time in UTC."""
        if isinstance(value, datetime):
            return value
        if ago := re.fullmatch(r"(\d{1,9})([smhd])", value):
            units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
            try:
                return datetime.now(UTC) - timedelta(**{units[ago[2]]: int(ago[1])})
            except OverflowError:
                self.fail(f"{value} is longer ago than there is time", param, ctx)
        is_day = re.fullmatch(r"\d{4}-\d\d-\d\d", value)
        text = f"{value}T{self._time_of_day}" if is_day else value
        try:
            found: datetime = msgspec.convert(text, datetime)
        except msgspec.ValidationError:
            self.fail(
                f"{value!r} is neither a time like 2026-11-20 or 2026-11-20T20:31:00Z nor one like 2d, 6h, 30m",
                param,
                ctx,
            )
        try:
            return found.astimezone(UTC)  # a time without a zone is local
        except (ValueError, OverflowError):
            self.fail(f"{value} is out of range: ask for a time within the years 2 to 9998", param, ctx)


class MomentParam(click.ParamType[Moment]):
    """A sequence of the log, or a time as of `TimeParam`."""

    name = "seq|time"

    def __init__(self, *, end_of_day: bool = False) -> None:
        self._time = TimeParam(end_of_day=end_of_day)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        """The sequence or the time."""
        if isinstance(value, int) or (isinstance(value, str) and _SEQUENCE.fullmatch(value)):
            return int(value)
        return self._time.convert(value, param, ctx)
