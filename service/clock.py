"""Time, as the log writes it down: UTC, in microseconds. It is the broker's as soon as that is known (ADR 0029)."""

import time
from datetime import UTC, datetime

FOR_EVER = datetime.max.replace(tzinfo=UTC)

_broker_ahead_of_steady: float | None = None


def now() -> datetime:
    """UTC, by the clock that all replicas share; this machine's where no broker was asked (a command's own process).

    Never a whole second: msgspec writes those without a fraction, and the log promises microseconds.
    """
    if _broker_ahead_of_steady is None:
        return _with_microsecond(machine())
    return _with_microsecond(datetime.fromtimestamp(time.monotonic() + _broker_ahead_of_steady, UTC))


def machine() -> datetime:
    """UTC by this machine's clock, which anybody may set."""
    return datetime.now(UTC)


def follow(broker_ahead_of_steady: float) -> None:
    """From here on `now` is the broker's time: so many seconds ahead of the clock that nobody sets."""
    global _broker_ahead_of_steady  # one process has one time
    _broker_ahead_of_steady = broker_ahead_of_steady


def of(numeric_date: int) -> datetime:
    """A NumericDate's moment (RFC 7519 §2), and the microsecond that the log wants with it."""
    return datetime.fromtimestamp(numeric_date, UTC).replace(microsecond=1)


def _with_microsecond(moment: datetime) -> datetime:
    return moment if moment.microsecond else moment.replace(microsecond=1)
