"""A replica's connections to the bus: its own, and one in each account of callers."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from events.bus.connection import Connection
from heirloom.broker.credentials import Credentials
from heirloom.broker.own_connection import connect_as
from heirloom.broker.roles import ASKING
from heirloom.broker.roles import answering as answering_role
from service.accounts import ACCOUNTS, ANYBODY, AccountConnection
from service.registry.broker_accounts import ROLE_ACCOUNTS

FOR_EVERY_CALLER = "endpoints"
"""The role that answers callers on a broker of your own, named in its inbox alone: who may connect there, and in which
account, is not ours to know. On our broker `heirloom.broker.roles` has one for each account."""


class Buses(NamedTuple):
    """A replica's connections to the bus.

    `log`: to the log and the other replicas; `inquiry`: to the read model; `callout`: for the broker's auth callouts;
    `answering`: to callers, in each of their accounts; `admin`: to operators (one of these, where the broker is ours).
    """

    log: Connection
    inquiry: Connection
    callout: Connection
    answering: list[AccountConnection]
    admin: AccountConnection

    def all(self) -> list[Connection]:
        """All connections, each once."""
        return [self.log, self.inquiry, self.callout, *{each.connection for each in (*self.answering, self.admin)}]


async def connect_all(
    url: str,
    credentials: Credentials | None,
    on_change: Callable[[str], Awaitable[None]],
    leaving: contextlib.AsyncExitStack,
) -> Buses:
    """Connect to the broker at `url`; the connections are closed with `leaving`.

    Without `credentials` the broker is not ours. `on_change` is that of `events.bus.connect`.
    """

    async def connected(role: str, name: str) -> Connection:
        connection = await connect_as(role, name, url, credentials, echo=False, on_change=on_change)
        leaving.push_async_callback(connection.close)
        return connection

    log_bus, inquiry = await connected("service", "heirloom log"), await connected("inquiry", "heirloom inquiry")
    callout = await connected("callout", "heirloom callout")
    if credentials is None:  # its accounts are unknown
        answering = [AccountConnection(await connected(FOR_EVERY_CALLER, "heirloom api"), ANYBODY)]
        admin = AccountConnection(await connected(FOR_EVERY_CALLER, "heirloom admin"), ANYBODY)
    else:
        asking = {name: await connected(answering_role(name), f"heirloom {name.lower()}") for name in ASKING}
        answering = [AccountConnection(asking[account], callers) for account, callers in ACCOUNTS.items()]
        admin = AccountConnection(asking[ROLE_ACCOUNTS["operator"]], ACCOUNTS[ROLE_ACCOUNTS["operator"]])
    return Buses(log_bus, inquiry, callout, answering, admin)
