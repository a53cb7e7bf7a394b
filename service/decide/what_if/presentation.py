"""The presentations of refresh tokens, as far as they can be read back from the commits.

The log holds decisions, not requests. For a refused presentation it holds neither the requested scope nor, except for a
late duplicate, the `Idempotency-Key`; for a repeated response it does not hold the key. Such a presentation counts as
one without them.
A presentation that appended no commit is not in the log at all: a repetition with the same response, an expired token,
the newest token of a family that had ended, and any token that another client presented.
"""

from typing import NamedTuple, assert_never

from events.aggregates.family import FamilyCommit
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    LateDuplicateRefused,
    Retry,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)


class Presentation(NamedTuple):
    """A refresh token of `generation` was presented; `scope` and `resource` are None if not requested.

    `answer` is `redeemed`, `repeated`, `late_duplicate`, or for any other refusal the reason why the family ended or
    had ended. A late duplicate's `retry` has a key that redeemed the generation.
    """

    generation: int
    answer: str
    scope: str | None = None
    resource: tuple[str, ...] | None = None
    retry: Retry | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether tokens were issued."""
        return self.answer in ACCEPTED


ACCEPTED = ("redeemed", "repeated")
LATE = "late_duplicate"


def presentation(commit: FamilyCommit) -> Presentation | None:
    """The presentation that this commit decided on, or None. Raises `ValueError` for an incomplete one."""
    state = commit.state
    newest = state.generation
    refusal = "" if state.revoked is None else state.revoked.reason
    for event in commit.events:
        match event:
            case TokenRedeemed(credential="refresh_token"):
                if state.access is None:
                    raise ValueError("a redemption without an access token")
                scope, resource = state.access.scope, state.access.audience
                return Presentation(event.generation, "redeemed", scope, resource, event.retry)
            case TokenReuseDetected(credential="refresh_token") | ForgeryDetected():
                return Presentation(event.generation, refusal)
            case LateDuplicateRefused():
                return Presentation(event.generation, LATE, retry=event.retry)
            case FamilyRevoked(reason="policy_changed") if newest is not None and _is_by_its_client(commit):
                return Presentation(newest, refusal)
            case TokenIssued(kind="access", client_id=str(), act=()) if newest is not None:
                return Presentation(newest - 1, "repeated", event.scope, event.audience)
            case TokenRedeemed() | TokenReuseDetected() | FamilyRevoked() | TokenIssued():
                pass  # of another credential, by somebody else, or beside a presentation
            case TokenRotated() | TokenRevoked() | GrantAuthorized() | AuthorizationCodeIssued():
                pass
            case DeviceAuthorizationStarted() | DeviceAuthorizationDenied():
                pass
            case _:
                assert_never(event)
    return None


def _is_by_its_client(commit: FamilyCommit) -> bool:
    """Whether the family's client caused the commit. The actor of a cut-off is the operator."""
    return commit.actor == f"client:{commit.state.client_id}"
