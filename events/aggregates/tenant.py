"""A tenant's settings: the aggregate `tokens.<tenant>.tenant`."""

from typing import TypeAlias

import msgspec

from events.aggregates.commit import Codec, Commit
from events.aggregates.settings import TenantSettings


class TenantConfigured(msgspec.Struct, frozen=True, tag_field="type", tag="TenantConfigured", omit_defaults=True):
    """The tenant's settings changed. Settings that are omitted have their defaults.

    `longest_ttl` (seconds) is the longest `access_token_ttl` of earlier settings, if longer than this one's.
    """

    settings: TenantSettings
    longest_ttl: int | None = None


class TenantState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The current settings. `longest_ttl` is as in `TenantConfigured`."""

    settings: TenantSettings
    longest_ttl: int | None = None


TenantEvent: TypeAlias = TenantConfigured
TenantCommit: TypeAlias = Commit[TenantEvent, TenantState]
codec: Codec[TenantEvent, TenantState] = Codec(TenantCommit)


def evolve(_state: TenantState | None, event: TenantEvent) -> TenantState:
    """The state after `event`."""
    return TenantState(event.settings, event.longest_ttl)
