"""A connection of the service's own: as one of its roles, with that role's inbox."""

import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

from nats.errors import NoServersError

from events.bus.broker_version import BrokerTooOld
from events.bus.connect import connect
from events.bus.connection import Connection
from events.bus.peer import NotOurBroker
from heirloom.broker.credentials import Credentials
from heirloom.broker.roles import LOG_ACCOUNT, LOG_API, ROLES, inbox
from service.registry.named_role import Holder, holder_of


async def connect_as(role: str, name: str, url: str, known: Credentials | None, **options: Any) -> Connection:
    """Connect as `role` to the broker at `url`; `name` and `options` are those of `bus.connect`.

    With `known` credentials the role authenticates by its nkey. Without, the broker is not ours, and `url` contains
    what it requires; a named role there uses the inbox of its name.
    """
    seed = None if known is None else known.seed(role)
    holder = named_in(url) if known is None else None
    prefix = inbox(role) if holder is None else holder.inbox
    connection = await connect(url, name, inbox_prefix=prefix, nkey_seed=seed, **options)
    if known is not None and ROLES[role].account != LOG_ACCOUNT:
        connection.jetstream_api = LOG_API
    return connection


def named_in(url: str) -> Holder | None:
    """The named role of the URL, or of the first of several separated by commas; None for any other user."""
    return holder_of(unquote(urlsplit(url.split(",")[0]).username or ""))


def obstacle(error: Exception, host: str, who: str) -> str:
    """Why `who` cannot connect to the broker at `host`: one line for a person, for an exception of `connect`."""
    if isinstance(error, BrokerTooOld | NotOurBroker):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of the broker at {host} is not to be trusted: {error.verify_message}; if its authority is"
            " one of yours, name that one's file in SSL_CERT_FILE"
        )
    if isinstance(error, ssl.SSLError):
        return f"there is no TLS with the broker at {host}: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return f"the broker at {host} does not answer"
    if isinstance(error, NoServersError | OSError):
        return f"no broker answers at {host}"
    return f"the broker at {host} does not let {who} in: {str(error).removeprefix('nats: ') or type(error).__name__}"
