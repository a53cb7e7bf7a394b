"""A time, or a sequence of the log, as a parameter on the command line."""

import re
from datetime import UTC, datetime
from typing import Any

import click

from heirloom.moment import Moment
from heirloom.time_text import NoTime, parse_time

_SEQUENCE = re.compile(r"[0-9]{1,100}")
"""More digits than any sequence has, so that the service reports which sequences exist."""


class TimeParam(click.ParamType[datetime]):
    """A time as `heirloom.time_text` reads it: a day, RFC 3339, `10:03`, `yesterday`, or how long ago.

    A day is its beginning; with `end_of_day` its last microsecond, for an option that includes the day it names. A time
    that is `past` must not be still to come: nothing has happened since then, whatever else was meant.
    """

    name = "time"

    def __init__(self, *, end_of_day: bool = False, past: bool = False) -> None:
        self._end_of_day = end_of_day
        self._past = past

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time in UTC; what names no zone is local."""
        if isinstance(value, datetime):
            return value
        now = datetime.now(UTC)
        try:
            found = parse_time(value, now, end_of_day=self._end_of_day)
        except NoTime as error:
            self.fail(str(error), param, ctx)
        if self._past and found > now:
            self.fail(f"{value} is still to come", param, ctx)
        return found


class MomentParam(click.ParamType[Moment]):
    """A sequence of the log, or a time as of `TimeParam`."""

    name = "seq|time"

    def __init__(self, *, end_of_day: bool = False, past: bool = False) -> None:
        self._time = TimeParam(end_of_day=end_of_day, past=past)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        """The sequence or the time."""
        if isinstance(value, int) or (isinstance(value, str) and _SEQUENCE.fullmatch(value)):
            return int(value)
        return self._time.convert(value, param, ctx)
