"""A client's registration: the aggregate `tokens.<tenant>.client.<client_id>`."""

from typing import TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from events.aggregates.commit import Codec, Commit, Time
from events.aggregates.settings import ClientSettings


class _Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    pass


class ClientConfigured(_Event, frozen=True, tag="ClientConfigured"):
    """The client's registration changed. For settings that it omits, the tenant's or the default ones hold.

    `longest_ttl` (seconds) is the longest `access_token_ttl` of earlier registrations, if longer than this one's.
    """

    settings: ClientSettings
    longest_ttl: int | None = None


class ClientSecretIssued(_Event, frozen=True, tag="ClientSecretIssued"):
    """A new client secret was issued; only its digest is stored."""

    secret_hash: str


class ClientDisabled(_Event, frozen=True, tag="ClientDisabled"):
    """The client was disabled: it gets no tokens any more, and those issued until `at` are void."""

    reason: str | None = None
    at: Time | None = None


class ClientEnabled(_Event, frozen=True, tag="ClientEnabled"):
    """The client was enabled again; tokens issued to it until `void_until` stay void.

    In older logs `void_until` is missing; then the time of the disabling holds.
    """

    reason: str | None = None
    void_until: Time | None = None


ClientEvent: TypeAlias = ClientConfigured | ClientSecretIssued | ClientDisabled | ClientEnabled


class ClientState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The current registration. Tokens issued to the client until `void_until` are void, in families of others too.

    `longest_ttl` is as in `ClientConfigured`.
    """

    settings: ClientSettings = ClientSettings()
    secret_hash: str | None = None
    disabled: bool = False
    void_until: Time | None = None
    longest_ttl: int | None = None


ClientCommit: TypeAlias = Commit[ClientEvent, ClientState]
codec: Codec[ClientEvent, ClientState] = Codec(ClientCommit)


def evolve(state: ClientState | None, event: ClientEvent) -> ClientState:
    """The state after `event`."""
    before = state or ClientState()
    match event:
        case ClientConfigured():
            return replace(before, settings=event.settings, longest_ttl=event.longest_ttl)
        case ClientSecretIssued():
            return replace(before, secret_hash=event.secret_hash)
        case ClientDisabled():
            return replace(before, disabled=True, void_until=event.at or before.void_until)
        case ClientEnabled():
            return replace(before, disabled=False, void_until=event.void_until or before.void_until)
        case _:
            assert_never(event)
