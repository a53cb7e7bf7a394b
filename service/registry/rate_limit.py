"""The refusal of a request that is above a rate (`events.fairness.token_buckets`)."""

from service.errors import OAuthError


def too_many(who: str) -> OAuthError:
    """The refusal of a request of `who`: nothing of it was read or written, so it is safe to try again later."""
    return OAuthError("slow_down", f"too many requests of this {who} at once; wait a moment and try again", "429")
