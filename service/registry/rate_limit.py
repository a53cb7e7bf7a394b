"""What one hears who asks more than a rate allows (`events.fairness.token_buckets`)."""

from service.errors import OAuthError


def too_many(who: str) -> OAuthError:
    """What one hears who asks too much: nothing was looked at or written, so trying again later is safe."""
    return OAuthError("slow_down", f"too many requests of this {who} at once; wait a moment and try again", "429")
