"""A moment of the log: a sequence or a time."""

from datetime import datetime
from typing import TypeAlias

Moment: TypeAlias = int | datetime


def is_inverted(since: Moment | None, until: Moment | None) -> bool:
    """Whether `until` is before `since`; a sequence and a time cannot be compared without the log."""
    if isinstance(since, int) and isinstance(until, int):
        return since > until
    return isinstance(since, datetime) and isinstance(until, datetime) and since > until
