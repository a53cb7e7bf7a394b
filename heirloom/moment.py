"""A part of the log: from one moment to another, each a sequence or a time."""

from datetime import datetime
from typing import TypeAlias

Moment: TypeAlias = int | datetime


def is_inverted(since: Moment | None, until: Moment | None) -> bool:
    """Whether it ends before it begins. Of a sequence and a time nobody can say so without the log."""
    if isinstance(since, int) and isinstance(until, int):
        return since > until
    return isinstance(since, datetime) and isinstance(until, datetime) and since > until
