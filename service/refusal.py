"""Refusals that every receiver of requests shares: `busy`, `too_many`, and what an unforeseen error becomes."""

import logging

from events.bus.headers import UnreadableHeaders
from events.log.jetstream_api import Unavailable
from service.errors import OAuthError

log = logging.getLogger("heirloom.server")


def busy() -> OAuthError:
    """The refusal of a request for which the queue has no room, or no turn in time."""
    return OAuthError("temporarily_unavailable", "too many requests are under way; try again")


def too_many(who: str) -> OAuthError:
    """The refusal of a request of `who`: nothing of it was read or written, so it is safe to try again later."""
    return OAuthError("slow_down", f"too many requests of this {who} at once; wait a moment and try again", "429")


def refusal_of(error: Exception) -> OAuthError:
    """The refusal that the caller receives for `error`. An unforeseen one is logged whole, and is `server_error`."""
    match error:
        case OAuthError():
            return error
        case UnreadableHeaders():
            return OAuthError("invalid_request", str(error))
        case Unavailable():
            return OAuthError("temporarily_unavailable", "the log does not answer now; try again")
        case _:
            log.error("a request failed", exc_info=error)
            return OAuthError("server_error", "something went wrong; the operator's log has the details")
