"""The accounts of the broker: the callers of each, and where their replies may go (ADR 0036)."""

from typing import NamedTuple

from events.bus.connection import Connection
from events.bus.own_inbox import OwnInbox, of_anybody, of_client, of_person, of_role
from service.endpoints.endpoint_table import endpoints
from service.registry.broker_accounts import CLIENTS_ACCOUNT, PERSONS_ACCOUNT, ROLE_ACCOUNTS


def _names(*proofs: str) -> tuple[str, ...]:
    return tuple(name for name, row in endpoints().items() if row.proved_by in proofs)


class Callers(NamedTuple):
    """The callers of one account: the `rows` that they may use, by name, and where their replies may go."""

    rows: tuple[str, ...]
    own_inbox: OwnInbox


ACCOUNTS: dict[str, Callers] = {
    CLIENTS_ACCOUNT: Callers(_names("subject", "nobody"), of_client),
    PERSONS_ACCOUNT: Callers(_names("person", "nobody"), of_person),
    ROLE_ACCOUNTS["operator"]: Callers(_names("nobody"), of_role("operator")),
    ROLE_ACCOUNTS["auditor"]: Callers(_names("nobody"), of_role("auditor")),
    ROLE_ACCOUNTS["edge"]: Callers(_names("request", "nobody"), of_role("edge")),
    ROLE_ACCOUNTS["resource"]: Callers(("edge-introspect", *_names("role", "nobody")), of_role("resource")),
}
"""The accounts of `heirloom.broker.roles`."""

ANYBODY = Callers(_names("subject", "request", "role", "nobody"), of_anybody)
"""The one account of a broker that is not ours."""


class AccountConnection(NamedTuple):
    """A connection that receives the requests of one account, and publishes their replies there."""

    connection: Connection
    callers: Callers
