"""Time as the log has it: UTC, in microseconds. It is the broker's time once that is known (ADR 0029)."""

import time
from datetime import UTC, datetime

FOR_EVER = datetime.max.replace(tzinfo=UTC)

_broker_ahead_of_steady: float | None = None


def now() -> datetime:
    """UTC by the broker's clock, which all replicas share; by this machine's before `use_broker_time` is called.

    It is never a whole second: msgspec writes those without a fraction, and the log promises microseconds.
    """
    if _broker_ahead_of_steady is None:
        return _with_microsecond(machine())
    return _with_microsecond(datetime.fromtimestamp(time.monotonic() + _broker_ahead_of_steady, UTC))


def machine() -> datetime:
    """UTC by this machine's clock, which can be set."""
    return datetime.now(UTC)


def use_broker_time(broker_ahead_of_steady: float) -> None:
    """Make `now` the broker's time, which is so many seconds ahead of the steady clock."""
    global _broker_ahead_of_steady  # one process has one time
    _broker_ahead_of_steady = broker_ahead_of_steady


def of(numeric_date: int) -> datetime:
    """The time of a NumericDate (RFC 7519 §2), plus a microsecond, as the log has no whole seconds."""
    return datetime.fromtimestamp(numeric_date, UTC).replace(microsecond=1)


def _with_microsecond(moment: datetime) -> datetime:
    return moment if moment.microsecond else moment.replace(microsecond=1)
