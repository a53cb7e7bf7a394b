"""Who asks: the accounts of the broker, what is asked in each, and how the inboxes there are called (ADR 0036)."""

from typing import NamedTuple

from events.bus.connection import Connection
from events.bus.own_inbox import OwnInbox, of_anybody, of_client, of_person, of_role
from service.endpoints import authorize, device_authorization, discovery, introspect, issue, revoke, token
from service.received_request import Endpoint

ENDPOINTS: dict[str, tuple[str, Endpoint]] = {
    "token": ("oauth.*.client.*.token", token.handle),
    "issue": ("oauth.*.client.*.issue", issue.handle),
    "authorize": ("oauth.*.client.*.authorize", authorize.handle),
    "device_authorization": ("oauth.*.client.*.device_authorization", device_authorization.handle),
    "revoke": ("oauth.*.client.*.revoke", revoke.handle),
    "introspect": ("oauth.*.client.*.introspect", introspect.handle),
    "jwks": ("oauth.*.public.jwks", discovery.jwks),
    "metadata": ("oauth.*.public.metadata", discovery.metadata),
}
PROVED_BY_SUBJECT = "oauth.*.client.*."
PROVED_BY_REQUEST = "oauth.*.edge."
FOR_PERSONS = ("introspect", "revoke")
_PUBLIC = ("jwks", "metadata")


def endpoints() -> dict[str, tuple[str, Endpoint]]:
    """What is listened to: the table, and every endpoint of a client's once more for those whom no subject proves."""
    edge = {
        f"edge-{name}": (PROVED_BY_REQUEST + subject.removeprefix(PROVED_BY_SUBJECT), endpoint)
        for name, (subject, endpoint) in ENDPOINTS.items()
        if subject.startswith(PROVED_BY_SUBJECT)
    }
    return ENDPOINTS | edge | {f"person-{name}": ENDPOINTS[name] for name in FOR_PERSONS}


class Askers(NamedTuple):
    """Those of one account. `asks` names endpoints."""

    asks: tuple[str, ...]
    own_inbox: OwnInbox


ACCOUNTS: dict[str, Askers] = {
    "USERS": Askers(tuple(ENDPOINTS), of_client),
    "PERSONS": Askers((*(f"person-{name}" for name in FOR_PERSONS), *_PUBLIC), of_person),
    "OPERATORS": Askers(_PUBLIC, of_role("operator")),
    "AUDITORS": Askers(_PUBLIC, of_role("auditor")),
    "EDGES": Askers((*(name for name in endpoints() if name.startswith("edge-")), *_PUBLIC), of_role("edge")),
    "RESOURCES": Askers(("edge-introspect", *_PUBLIC), of_role("resource")),
}
"""As `heirloom.broker.roles` has them."""

ANYBODY = Askers(tuple(name for name in endpoints() if not name.startswith("person-")), of_anybody)
"""On a broker that is not ours, in its one account."""


class Answering(NamedTuple):
    """The connection that answers askers, inside their account."""

    connection: Connection
    askers: Askers
