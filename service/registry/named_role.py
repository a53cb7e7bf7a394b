"""Named roles: credentials of one holder for one tenant. A named role may use its tenant's subjects and its own inbox.

Its permissions are the tenant's part of those in `heirloom.broker.roles`, in the same account of the broker.
"""

import re
from datetime import datetime
from typing import NamedTuple

from events.aggregates.aggregate_names import ROLE_NAME, TENANT
from events.aggregates.role import RoleKind, RoleState
from service import clock
from service.registry.broker_accounts import ROLE_ACCOUNTS


class Holder(NamedTuple):
    """The holder of a named role of the tenant."""

    tenant: str
    name: str

    @property
    def login(self) -> str:
        """The NATS user name with which the holder connects."""
        return f"{self.tenant}.role.{self.name}"

    @property
    def inbox(self) -> str:
        """The prefix of the holder's inbox, to which nobody else may subscribe."""
        return f"_INBOX.{self.login}"


_LOGIN = re.compile(rf"({TENANT.pattern})\.role\.({ROLE_NAME.pattern})")


def holder_of(login: str) -> Holder | None:
    """The holder that connects with that NATS user name; None for another user name."""
    match = _LOGIN.fullmatch(login)
    return None if match is None else Holder(match[1], match[2])


class NamedRole(NamedTuple):
    """A named role that is in force."""

    tenant: str
    name: str
    role: RoleKind

    @property
    def user(self) -> str:
        """Its user at the broker; a client's never contains a colon."""
        return f"{self.tenant}/{as_client(self.name)}"

    @property
    def holder(self) -> Holder:
        """The holder that connects with it."""
        return Holder(self.tenant, self.name)

    @property
    def inbox(self) -> str:
        """The prefix of the holder's inbox."""
        return self.holder.inbox

    @property
    def account(self) -> str:
        """Its account at the broker."""
        return ROLE_ACCOUNTS[self.role]

    def publish(self) -> list[str]:
        """The subjects to which it may publish."""
        return [f"oauth.{self.tenant}.public.>", *(subject.format(self.tenant) for subject in _PUBLISH[self.role])]

    def subscribe(self) -> list[str]:
        """The subjects to which it may subscribe, its inbox among them."""
        feed = [subject.format(self.tenant) for subject in _FEED] if self.role == "resource" else []
        return [*below(self.inbox), *feed]


class TenantRole(NamedTuple):
    """The state of a name, with the sequence and the time (`at`) of the commit that set it."""

    state: RoleState
    seq: int
    at: datetime

    @property
    def void_until(self) -> datetime:
        """Connections that began before are not this holder's: a revoked name may be added again for another one."""
        return clock.FOR_EVER if self.state.revoked else self.at


MAX_CONNECTIONS = 100
"""Of one named role."""
MAX_CONNECTIONS_OF_ALL = 200
"""Of all named roles of one tenant together."""
MAX_CONNECTIONS_OF_A_PASSWORD = 1_000
"""Of all holders of a password that is for every tenant."""


def below(inbox: str) -> list[str]:
    """The subscriptions of an inbox's owner: a subject of a thousand parts would cost the broker a node for each."""
    return [f"{inbox}.*", f"{inbox}.*.*", f"{inbox}.*.*.*"]


def as_client(name: str) -> str:
    """What stands for the role in the place of a `client_id`."""
    return f"role:{name}"


def bound_of_role(tenant: str, client_id: str) -> int | None:
    """How many connections a role may have; None for a client.

    `client_id` is a named role's (`as_client`), or all of the tenant's together (`as_client("")`). It is empty for the
    password that is for every tenant, and then `tenant` is the password's user.
    """
    if client_id.startswith(as_client("")):
        return MAX_CONNECTIONS if client_id != as_client("") else MAX_CONNECTIONS_OF_ALL
    return MAX_CONNECTIONS_OF_A_PASSWORD if not client_id and tenant in ROLE_ACCOUNTS else None


_PUBLISH: dict[RoleKind, tuple[str, ...]] = {
    "operator": ("admin.{}.>",),
    "auditor": ("audit.{}.>", "$JS.HEIRLOOM.API.DIRECT.GET.*.tokens.{}.>"),
    "edge": ("oauth.{}.edge.>",),
    "resource": ("oauth.{}.edge.introspect", "oauth.{}.resource.revocations"),
}
_FEED = ("tokens.{}.family.*.revoked", "revocations.{}", "revocations.{}.>", "keys.{}")
