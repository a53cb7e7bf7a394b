"""A time, or a sequence of the log, as a parameter on the command line."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

_BEGINNING, _END = "00:00:00", "23:59:59.999999"
_SEQUENCE = re.compile(r"[0-9]{1,100}")
"""More digits than any sequence has, so that the service reports which sequences exist."""


class When(click.ParamType[datetime]):
    """An RFC 3339 time, a day, or how long ago: `90s`, `30m`, `6h`, `2d`.

    A day is its beginning; of an option `--until`, its last microsecond, since what it names is included.
    """

    name = "time"

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
        text = f"{value}T{_END if _is_until(param) else _BEGINNING}" if is_day else value
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


class Until(click.ParamType[int | datetime]):
    """A sequence of the log, or a time."""

    name = "seq|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | datetime:
        """The sequence or the time."""
        if isinstance(value, int) or (isinstance(value, str) and _SEQUENCE.fullmatch(value)):
            return int(value)
        return When().convert(value, param, ctx)


def _is_until(param: click.Parameter | None) -> bool:
    return param is not None and "--until" in param.opts
