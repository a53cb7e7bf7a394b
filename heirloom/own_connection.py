"""A connection of the service's own: as one of its roles, with that role's inbox."""

from typing import Any

from events import bus
from heirloom.credentials import Credentials
from heirloom.roles import inbox
from heirloom.running import host_of


async def connect_as(role: str, name: str, url: str, known: Credentials | None, **options: Any) -> bus.Connection:
    """Connect as `role` to the broker at `url`; `name` and `options` are those of `bus.connect`.

    Without `known` credentials the broker is not ours, and `url` holds some if it wants any.
    """
    address = url if known is None else known.url(role, host_of(url))
    return await bus.connect(address, name, inbox_prefix=inbox(role), **options)
