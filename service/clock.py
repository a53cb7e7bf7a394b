"""The one clock."""

from datetime import UTC, datetime


def now() -> datetime:
    """UTC. Never a whole second: msgspec writes those without a fraction, and the log promises microseconds."""
    moment = datetime.now(UTC)
    return moment if moment.microsecond else moment.replace(microsecond=1)
