"""A client's registration: the aggregate `tokens.<tenant>.client.<client_id>`."""

from typing import TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from events.aggregates.commit import Codec, Commit, Time
from events.aggregates.settings import ClientSettings


class _Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    pass


class ClientConfigured(_Event, frozen=True, tag="ClientConfigured"):
    """The client has this registration from now on; what it leaves out is the tenant's, or the default.

    `longest_ttl` (seconds) is the longest `access_token_ttl` of those before, where that is longer than this one's.
    """

    settings: ClientSettings
    longest_ttl: int | None = None


class ClientSecretIssued(_Event, frozen=True, tag="ClientSecretIssued"):
    """A new secret was handed out; only a digest is kept."""

    secret_hash: str


class ClientDisabled(_Event, frozen=True, tag="ClientDisabled"):
    """Nothing is issued to the client any more, and what it holds `at` that time is void."""

    reason: str | None = None
    at: Time | None = None


class ClientEnabled(_Event, frozen=True, tag="ClientEnabled"):
    """The client may ask again; what was given to it until `void_until` stays void.

    Where that is not told, in older logs, it is what the disabling said.
    """

    reason: str | None = None
    void_until: Time | None = None


ClientEvent: TypeAlias = ClientConfigured | ClientSecretIssued | ClientDisabled | ClientEnabled


class ClientState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The registration in force. What was given to the client until `void_until` is void, whosever family it is in.

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
