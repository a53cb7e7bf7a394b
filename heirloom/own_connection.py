"""A connection of the service's own: as one of its roles, with that role's inbox."""

from typing import Any
from urllib.parse import unquote, urlsplit

from events import bus
from heirloom.credentials import Credentials
from heirloom.roles import LOG_ACCOUNT, LOG_API, ROLES, inbox
from service.named_role import Holder, holder_of


async def connect_as(role: str, name: str, url: str, known: Credentials | None, **options: Any) -> bus.Connection:
    """Connect as `role` to the broker at `url`; `name` and `options` are those of `bus.connect`.

    With `known` credentials the role proves itself by its nkey. Without, the broker is not ours, and `url` holds what
    it wants: who has a name of its own there has the inbox of that name.
    """
    seed = None if known is None else known.seed(role)
    holder = named_in(url) if known is None else None
    prefix = inbox(role) if holder is None else holder.inbox
    connection = await bus.connect(url, name, inbox_prefix=prefix, nkey_seed=seed, **options)
    if known is not None and ROLES[role].account != LOG_ACCOUNT:
        connection.jetstream_api = LOG_API
    return connection


def named_in(url: str) -> Holder | None:
    """Whose name that URL connects under, or the first of several with commas between; None for a user without one."""
    return holder_of(unquote(urlsplit(url.split(",")[0]).username or ""))
