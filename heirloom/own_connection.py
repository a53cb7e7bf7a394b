"""A connection of the service's own: as one of its roles, with that role's inbox."""

from typing import Any

from events import bus
from heirloom.credentials import Credentials
from heirloom.roles import LOG_ACCOUNT, LOG_API, ROLES, inbox


async def connect_as(role: str, name: str, url: str, known: Credentials | None, **options: Any) -> bus.Connection:
    """Connect as `role` to the broker at `url`; `name` and `options` are those of `bus.connect`.

    With `known` credentials the role proves itself by its nkey. Without, the broker is not ours, and `url` holds what
    it wants.
    """
    seed = None if known is None else known.seed(role)
    connection = await bus.connect(url, name, inbox_prefix=inbox(role), nkey_seed=seed, **options)
    if known is not None and ROLES[role].account != LOG_ACCOUNT:
        connection.jetstream_api = LOG_API
    return connection
