"""The result of a decision: an outcome for the caller, and the events to append first."""

from typing import NamedTuple, TypeAlias

from events.aggregates.family import AccessToken
from events.aggregates.family_events import FamilyEvent
from service.errors import OAuthError


class Granted(NamedTuple):
    """Issue an access token, and the refresh token of `generation`, computed under MAC key `key`; None: none."""

    access: AccessToken
    generation: int | None
    key: int


class Refused(NamedTuple):
    """Refuse the request with `error`."""

    error: OAuthError


class Done(NamedTuple):
    """The command is done, or had no effect because it was done already."""


Outcome: TypeAlias = Granted | Refused | Done


class Decision(NamedTuple):
    """The outcome, and the events that must be in the log before the caller receives it.

    With `unless_key_of` the decision holds unless the request has an `Idempotency-Key` that redeemed that older
    generation: these keys are read from the log, and it is decided again.
    """

    outcome: Outcome
    events: tuple[FamilyEvent, ...] = ()
    unless_key_of: int | None = None


def blocked() -> Refused:
    """The refusal of a grant for a blocked person (RFC 6749 §5.2)."""
    return Refused(OAuthError("invalid_grant", "the subject is blocked"))


def key_used_otherwise() -> Refused:
    """The refusal of a request with the `Idempotency-Key` of another request (CONTRACT §2)."""
    return Refused(OAuthError("invalid_request", "this Idempotency-Key was already used with another request"))


def invalid_grant() -> Refused:
    """The refusal of every invalid token; it does not tell the reason (RFC 6749 §5.2)."""
    return Refused(OAuthError("invalid_grant", "the token is not valid, or not valid any more"))
