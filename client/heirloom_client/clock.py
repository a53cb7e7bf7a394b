"""The time that tokens live by. A test may let it pass (`heirloom_client.testing`)."""

import time

ahead = 0.0
"""By how many seconds this process's time is ahead of the machine's."""


def now() -> float:
    """Seconds since 1970."""
    return time.time() + ahead


def monotonic() -> float:
    """Seconds on a clock that nobody sets back."""
    return time.monotonic() + ahead
