"""What was asked, read back from what was committed: the presentations of refresh tokens that left a trace.

The log has decisions, not requests. Of a presentation that was refused it has neither the `Idempotency-Key` nor the
scope asked for, of one that was answered again not the key: it counts as one without. Of one that wrote nothing it has
nothing at all: that is every repetition that was answered alike, every token that had expired, the newest token of a
family that had ended, and whatever a client without rights to it presented.
"""

from typing import NamedTuple

from events.aggregates.family import (
    FamilyCommit,
    FamilyRevoked,
    ForgeryDetected,
    Retry,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
)


class Presentation(NamedTuple):
    """A refresh token of `generation` was presented, asking for `scope` and `resource` if not None.

    `answer` is what came of it: `redeemed`, `repeated`, or for a refusal the reason why the family ended or had ended.
    """

    generation: int
    answer: str
    scope: str | None = None
    resource: tuple[str, ...] | None = None
    retry: Retry | None = None

    @property
    def is_accepted(self) -> bool:
        """Tokens were given."""
        return self.answer in ACCEPTED


ACCEPTED = ("redeemed", "repeated")


def presentation(commit: FamilyCommit) -> Presentation | None:
    """The presentation that this commit decided on, if it was one. Raises `ValueError` for half of one."""
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
            case FamilyRevoked(reason="policy_changed") if newest is not None and _is_by_its_client(commit):
                return Presentation(newest, refusal)
            case TokenIssued(kind="access", client_id=str(), act=()) if newest is not None:
                return Presentation(newest - 1, "repeated", event.scope, event.audience)
    return None


def _is_by_its_client(commit: FamilyCommit) -> bool:
    """A cut-off has the actor who ordered it."""
    return commit.actor == f"client:{commit.state.client_id}"
