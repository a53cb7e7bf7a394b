"""Enabling a client again (CONTRACT §5): what it was given before is void, and nothing else is."""

from datetime import datetime
from typing import NamedTuple

from events.aggregates.client import ClientEnabled, ClientEvent, ClientState
from service.errors import OAuthError


class Enable(NamedTuple):
    """Enable the client that was seen in the state `seen`.

    If it was disabled there, that was complete before `void_until` was over: whatever it was given has an `iat` up to
    then, and what it will be given has a later one.
    """

    seen: ClientState
    void_until: datetime
    reason: str | None = None


def enable(state: ClientState, command: Enable) -> tuple[ClientEvent, ...]:
    """`ClientEnabled`, or nothing where it may ask already.

    Raises `temporarily_unavailable` where it was disabled once more since it was seen: that may not be complete.
    """
    if not state.disabled:
        return ()
    if not command.seen.disabled or state.void_until != command.seen.void_until:
        raise OAuthError("temporarily_unavailable", "the client was disabled meanwhile; repeat the command")
    # what another replica's clock has said of it is not taken back
    void_until = max(command.void_until, state.void_until or command.void_until)
    return (ClientEnabled(command.reason, void_until),)
