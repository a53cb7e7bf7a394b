"""Enabling a client again (CONTRACT §5): tokens from before stay void, and no others become void."""

from datetime import datetime
from typing import NamedTuple

from events.aggregates.client import ClientEnabled, ClientEvent, ClientState
from service.errors import OAuthError


class Enable(NamedTuple):
    """Enable the client, whose state was `seen` when the administrator's request came.

    If it was disabled then, the disabling was complete before `void_until`: every token from before has an `iat` up to
    that time, and every later token has a later `iat`.
    """

    seen: ClientState
    void_until: datetime
    reason: str | None = None


def enable(state: ClientState, command: Enable) -> tuple[ClientEvent, ...]:
    """`ClientEnabled`, or no event if the client is enabled already.

    Raises `temporarily_unavailable` if it was disabled again meanwhile: that disabling may not be complete.
    """
    if not state.disabled:
        return ()
    if not command.seen.disabled or state.void_until != command.seen.void_until:
        raise OAuthError("temporarily_unavailable", "the client was disabled meanwhile; repeat the command")
    # never earlier than a time that another replica's clock has set
    void_until = max(command.void_until, state.void_until or command.void_until)
    return (ClientEnabled(command.reason, void_until),)
