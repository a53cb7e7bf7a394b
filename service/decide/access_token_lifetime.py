"""How long an access token lives: never shorter than its answer promises (RFC 6749 §5.1, RFC 7519 §4.1.4)."""

from datetime import datetime, timedelta

from events.aggregates.family import AccessToken

ON_ITS_WAY = timedelta(seconds=0.5)
"""What an answer may take to be written and sent without promising a second less."""
_SECOND, _MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)


def access_expiry(now: datetime, ttl: int) -> datetime:
    """When a token of `ttl` seconds that is given now ends: a whole second, as `exp` is, rounded up.

    With the microsecond that the log wants with it (`service.clock.of`).
    """
    least = now + timedelta(seconds=ttl) + ON_ITS_WAY
    return (least + _SECOND - _MICROSECOND).replace(microsecond=0) + _MICROSECOND


def expires_in(access: AccessToken, now: datetime) -> int:
    """Whole seconds until `exp`, which is a microsecond before `expires_at`; never more than its policy gave it."""
    given = access.expires_at - access.issued_at - ON_ITS_WAY
    return max(min(access.expires_at - _MICROSECOND - now, given) // _SECOND, 0)
