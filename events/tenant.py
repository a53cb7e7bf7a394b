"""A tenant's settings: the aggregate `tokens.<tenant>.tenant`."""

from typing import TypeAlias

import msgspec

from events.commit import Codec, Commit
from events.settings import TenantSettings


class TenantConfigured(msgspec.Struct, frozen=True, tag_field="type", tag="TenantConfigured"):
    """The tenant has these settings from now on; what they leave out has its default."""

    settings: TenantSettings


class TenantState(msgspec.Struct, frozen=True):
    """The settings in force."""

    settings: TenantSettings


TenantEvent: TypeAlias = TenantConfigured
TenantCommit: TypeAlias = Commit[TenantEvent, TenantState]
codec: Codec[TenantEvent, TenantState] = Codec(TenantCommit)


def evolve(_state: TenantState | None, event: TenantEvent) -> TenantState:
    """The state after `event`."""
    return TenantState(event.settings)
