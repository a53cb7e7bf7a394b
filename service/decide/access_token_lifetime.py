"""How long an access token is valid: never shorter than `expires_in` promises (RFC 6749 §5.1, RFC 7519 §4.1.4)."""

from datetime import datetime, timedelta

from events.aggregates.family import AccessToken

ON_ITS_WAY = timedelta(seconds=0.5)
"""How long encoding and sending a response may take before `expires_in` is a second less."""
_SECOND, _MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)


def access_expiry(now: datetime, ttl: int) -> datetime:
    """When a token of `ttl` seconds that is issued now expires: a whole second, as `exp` is, rounded up.

    One microsecond is added, since the log writes times with a fraction (`service.clock.of`).
    """
    least = now + timedelta(seconds=ttl) + ON_ITS_WAY
    return (least + _SECOND - _MICROSECOND).replace(microsecond=0) + _MICROSECOND


def expires_in(access: AccessToken, now: datetime) -> int:
    """Whole seconds until `exp`, which is a microsecond before `expires_at`; never more than the policy's lifetime."""
    exp = access.expires_at - _MICROSECOND
    return max(min(exp - now, exp - access.issued_at - ON_ITS_WAY) // _SECOND, 0)
