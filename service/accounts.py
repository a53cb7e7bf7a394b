"""The table of endpoints, and the accounts of the broker: the callers of each, and their subjects (ADR 0036)."""

from typing import NamedTuple

from events.bus.connection import Connection
from events.bus.own_inbox import OwnInbox, of_anybody, of_client, of_person, of_role
from service.endpoints import authorize, device_authorization, discovery, introspect, issue, revoke, token
from service.received_request import Endpoint, Row


def _of_client(name: str, handle: Endpoint, *, read_only: bool = False) -> Row:
    return Row(name, name, f"oauth.*.client.*.{name}", handle, "subject", read_only)


def _public(name: str, handle: Endpoint) -> Row:
    return Row(name, name, f"oauth.*.public.{name}", handle, "nobody", read_only=True)


ENDPOINTS: dict[str, Row] = {
    row.name: row
    for row in (
        _of_client("token", token.handle),
        _of_client("issue", issue.handle),
        _of_client("authorize", authorize.handle),
        _of_client("device_authorization", device_authorization.handle),
        _of_client("revoke", revoke.handle),
        _of_client("introspect", introspect.handle, read_only=True),
        _public("jwks", discovery.jwks),
        _public("metadata", discovery.metadata),
    )
}
FOR_PERSONS = ("introspect", "revoke")
"""The endpoints for connections that a person's token has opened."""
_PUBLIC = ("jwks", "metadata")


def endpoints() -> dict[str, Row]:
    """All rows by name: the table, every endpoint of a client once more for the edge, and those `FOR_PERSONS`."""
    edge = [_at_edge(row) for row in ENDPOINTS.values() if row.proved_by == "subject"]
    persons = [ENDPOINTS[name]._replace(name=f"person-{name}", proved_by="person") for name in FOR_PERSONS]
    return ENDPOINTS | {row.name: row for row in (*edge, *persons)}


def _at_edge(row: Row) -> Row:
    subject = f"oauth.*.edge.{row.endpoint}"
    return row._replace(name=f"edge-{row.endpoint}", subject=subject, proved_by="request")


def _names(*proofs: str) -> tuple[str, ...]:
    return tuple(name for name, row in endpoints().items() if row.proved_by in proofs)


class Callers(NamedTuple):
    """The callers of one account: the `rows` that they may use, by name, and where their replies may go."""

    rows: tuple[str, ...]
    own_inbox: OwnInbox


ACCOUNTS: dict[str, Callers] = {
    "USERS": Callers(_names("subject", "nobody"), of_client),
    "PERSONS": Callers(_names("person", "nobody"), of_person),
    "OPERATORS": Callers(_PUBLIC, of_role("operator")),
    "AUDITORS": Callers(_PUBLIC, of_role("auditor")),
    "EDGES": Callers(_names("request", "nobody"), of_role("edge")),
    "RESOURCES": Callers(("edge-introspect", *_PUBLIC), of_role("resource")),
}
"""The accounts of `heirloom.broker.roles`."""

ANYBODY = Callers(_names("subject", "request", "nobody"), of_anybody)
"""The one account of a broker that is not ours."""


class AccountConnection(NamedTuple):
    """A connection that receives the requests of one account, and publishes their replies there."""

    connection: Connection
    callers: Callers
