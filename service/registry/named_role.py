"""What a role under a name of its own may publish and subscribe to: its tenant's subjects, and its own inbox.

It has a part of what `heirloom.broker.roles` gives that role for all tenants, in the same account of the broker.
"""

import re
from datetime import datetime
from typing import NamedTuple

from events.aggregates.role import RoleKind, RoleState
from events.aggregates.subjects import ROLE_NAME, STREAM, TENANT
from service import clock


class Holder(NamedTuple):
    """Who connects under a name of the tenant."""

    tenant: str
    name: str

    @property
    def login(self) -> str:
        """The NATS user with which it connects."""
        return f"{self.tenant}.role.{self.name}"

    @property
    def inbox(self) -> str:
        """The prefix of its inbox, which nobody else may subscribe to."""
        return f"_INBOX.{self.login}"


_LOGIN = re.compile(rf"({TENANT.pattern})\.role\.({ROLE_NAME.pattern})")


def holder_of(login: str) -> Holder | None:
    """Who connects as that NATS user; None for whoever has no such name."""
    match = _LOGIN.fullmatch(login)
    return None if match is None else Holder(match[1], match[2])


class NamedRole(NamedTuple):
    """One that was added, and not revoked."""

    tenant: str
    name: str
    role: RoleKind

    @property
    def user(self) -> str:
        """What the broker calls it; no client's name holds a colon."""
        return f"{self.tenant}/{as_client(self.name)}"

    @property
    def holder(self) -> Holder:
        """Who connects under it."""
        return Holder(self.tenant, self.name)

    @property
    def inbox(self) -> str:
        """The prefix of its holder's inbox."""
        return self.holder.inbox

    @property
    def account(self) -> str:
        """Where it lives on the broker."""
        return ACCOUNTS[self.role]

    def publish(self) -> list[str]:
        """Subjects."""
        return [f"oauth.{self.tenant}.public.>", *(subject.format(self.tenant) for subject in _PUBLISH[self.role])]

    def subscribe(self) -> list[str]:
        """Subjects, its inbox among them."""
        feed = [f"tokens.{self.tenant}.family.*.revoked"] if self.role == "resource" else []
        return [*below(self.inbox), *feed]


class TenantRole(NamedTuple):
    """What holds of a name, and since which commit, which was made `at` that time."""

    state: RoleState
    seq: int
    at: datetime

    @property
    def void_until(self) -> datetime:
        """A connection that was begun before is not this holder's: a revoked name may be added again, for another."""
        return clock.FOR_EVER if self.state.revoked else self.at


MAX_CONNECTIONS = 100
"""Of one name."""


MAX_CONNECTIONS_OF_ALL = 200
"""Of all names of one tenant together."""
MAX_CONNECTIONS_OF_A_PASSWORD = 1_000
"""Of all holders of a role for every tenant."""


def below(inbox: str) -> list[str]:
    """What its owner may subscribe to: a subject of a thousand parts would cost the broker a node for each."""
    return [f"{inbox}.*", f"{inbox}.*.*", f"{inbox}.*.*.*"]


def as_client(name: str) -> str:
    """Where others have a client_id."""
    return f"role:{name}"


def bound_of_role(tenant: str, client_id: str) -> int | None:
    """How many connections a role may have, by its name (`as_client`), all of a tenant (`as_client("")`), or by the
    password for all tenants, whose user stands in the place of the tenant; None for a client.
    """
    if client_id.startswith(as_client("")):
        return MAX_CONNECTIONS if client_id != as_client("") else MAX_CONNECTIONS_OF_ALL
    return MAX_CONNECTIONS_OF_A_PASSWORD if not client_id and tenant in ACCOUNTS else None


ACCOUNTS: dict[RoleKind, str] = {
    "operator": "OPERATORS",
    "auditor": "AUDITORS",
    "edge": "EDGES",
    "resource": "RESOURCES",
}
"""As `heirloom.broker.roles` has them."""

_PUBLISH: dict[RoleKind, tuple[str, ...]] = {
    "operator": ("admin.{}.>",),
    "auditor": ("audit.{}.>", f"$JS.HEIRLOOM.API.DIRECT.GET.{STREAM}.tokens.{{}}.>"),
    "edge": ("oauth.{}.edge.>",),
    "resource": (
        "oauth.{}.edge.introspect",
        f"$JS.HEIRLOOM.API.DIRECT.GET.{STREAM}.tokens.{{}}.family.*.revoked",
    ),
}
