"""What a decision can come to."""

from typing import NamedTuple, TypeAlias

from events.aggregates.family import AccessToken, FamilyEvent
from service.errors import OAuthError


class Granted(NamedTuple):
    """Tokens: an access token, and the refresh token of `generation` (None: none), computed under MAC key `key`."""

    access: AccessToken
    generation: int | None
    key: int


class Refused(NamedTuple):
    """No, and why."""

    error: OAuthError


class Done(NamedTuple):
    """It is so now, or was already."""


Outcome: TypeAlias = Granted | Refused | Done


class Decision(NamedTuple):
    """The answer, and what must be in the log before it is given."""

    outcome: Outcome
    events: tuple[FamilyEvent, ...] = ()


def blocked() -> Refused:
    """What a client hears that asks for a person to whom nothing is granted any more (RFC 6749 §5.2)."""
    return Refused(OAuthError("invalid_grant", "the subject is blocked"))


def key_used_otherwise() -> Refused:
    """What a client hears that repeats an `Idempotency-Key` and not the request (CONTRACT §2)."""
    return Refused(OAuthError("invalid_request", "this Idempotency-Key was already used with another request"))


def invalid_grant() -> Refused:
    """The one answer to every token that is not good: it tells nothing about why (RFC 6749 §5.2)."""
    return Refused(OAuthError("invalid_grant", "the token is not valid, or not valid any more"))
