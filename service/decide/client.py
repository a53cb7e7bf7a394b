"""What operators order about a client: its registration, with its secret, and its enabling (CONTRACT §5)."""

from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from events.aggregates.client import ClientConfigured, ClientEnabled, ClientEvent, ClientSecretIssued, ClientState
from events.aggregates.settings import ClientSettings
from service.decide.policy import longest_before
from service.errors import OAuthError

GetsSecret: TypeAlias = Literal["never", "if_missing", "always"]


class Register(NamedTuple):
    """Replace the client's registration by `settings`.

    `secret_hash` is the digest of a fresh secret, which the client gets `never`, `if_missing` or `always`.
    """

    settings: ClientSettings
    secret_hash: str
    gets_secret: GetsSecret


def register(state: ClientState | None, command: Register) -> tuple[ClientEvent, ...]:
    """`ClientConfigured` where the registration changes, and `ClientSecretIssued` where the client gets the secret."""
    lacks_secret = state is None or state.secret_hash is None
    if command.gets_secret == "always" or (command.gets_secret == "if_missing" and lacks_secret):
        return (*_configure(state, command.settings), ClientSecretIssued(command.secret_hash))
    return _configure(state, command.settings)


def _configure(state: ClientState | None, settings: ClientSettings) -> tuple[ClientEvent, ...]:
    if state is None:
        return (ClientConfigured(settings),)
    if state.settings == settings:
        return ()
    longest = longest_before(settings.access_token_ttl or 0, state.settings.access_token_ttl, state.longest_ttl)
    return (ClientConfigured(settings, longest),)


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
