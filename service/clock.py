"""Time, as the log writes it down: UTC, in microseconds."""

from datetime import UTC, datetime


def now() -> datetime:
    """UTC. Never a whole second: msgspec writes those without a fraction, and the log promises microseconds."""
    moment = datetime.now(UTC)
    return moment if moment.microsecond else moment.replace(microsecond=1)


def of(numeric_date: int) -> datetime:
    """A NumericDate's moment (RFC 7519 §2), and the microsecond that the log wants with it."""
    return datetime.fromtimestamp(numeric_date, UTC).replace(microsecond=1)
