"""Who may come in at all: the rates, looked at before anything of a request but its subject (ADR 0032).

All of them are token buckets of this replica's memory, of whom the log has: nobody makes one grow by inventing names.
"""

import time
from collections.abc import Callable

from events.fairness.fair_queue import Asker
from events.fairness.token_buckets import Bucket
from service.registry.rate_limit import too_many
from service.registry.registry import Registry
from service.registry.tenant import Client

EDGE_PER_SECOND = 10_000
"""Requests of a tenant's that come from edges, before it is known whose they are."""
PUBLIC_PER_SECOND = 1_000
"""Questions for a tenant's keys and metadata."""
PERSONS_PER_SECOND = 1_000
"""Of those who show a person's token of one client, together: nothing that arrives says which person asks."""
LOOKS_PER_SECOND = 1_000
"""Looks into the log for a tenant's clients that are not known here, or whose proof is wrong by what is known."""
ASSERTIONS_PER_SECOND = 200
"""Of a client's: each is a durable write of the broker's, kept for a quarter of an hour."""

COMPANY_SECONDS = 2.0
"""For so long after another one's request nobody is alone."""

EDGE, PUBLIC, STRANGER = "*edge", "*public", "*stranger"
"""Askers that are no client, and could have no client's name: all of a tenant's together."""
PERSONS = "*persons of "
"""Before a client's name: all who show a person's token of that client."""
NOBODYS = "*"
"""The tenant of all tenants that are not known."""


class Door:
    """Names whom a request counts for, and refuses it where that one asks too much: `slow_down`."""

    def __init__(self, registry: Registry, now: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._now = now
        self._strangers = Bucket()
        self._latest: Asker | None = None
        self._alone_from = float("-inf")

    def alone(self) -> Asker | None:
        """The client, or who has a person's token, beside whom no other one has been let in for a while."""
        return self._latest if self._now() >= self._alone_from else None

    def client(self, tenant_name: str, client_id: str) -> Asker:
        """A client that has proved who it is, at its own rate."""
        tenant = self._registry.known_tenant(tenant_name)
        client = tenant.clients.get(client_id) if tenant is not None else None
        if client is None:
            return self._unknown(tenant_name)
        self._count(client.bucket, client.rules.requests_per_second, "client")
        return self._came((tenant_name, client_id))

    def person(self, tenant_name: str, client_id: str) -> Asker:
        """Somebody with a person's token of that client: all of those together, and never the client itself."""
        tenant = self._registry.known_tenant(tenant_name)
        client = tenant.clients.get(client_id) if tenant is not None else None
        if client is None:
            return self._unknown(tenant_name)
        self._count(client.persons, PERSONS_PER_SECOND, "client's people")
        return self._came((tenant_name, PERSONS + client_id))

    def edge(self, tenant_name: str) -> Asker:
        """Somebody at an edge, who has proved nothing."""
        tenant = self._registry.known_tenant(tenant_name)
        if tenant is None:
            return self._stranger()
        self._count(tenant.from_edges, EDGE_PER_SECOND, "tenant")
        return tenant_name, EDGE

    def public(self, tenant_name: str) -> Asker:
        """Anybody."""
        tenant = self._registry.known_tenant(tenant_name)
        if tenant is None:
            return self._stranger()
        self._count(tenant.public, PUBLIC_PER_SECOND, "tenant")
        return tenant_name, PUBLIC

    def assertion(self, client: Client) -> None:
        """A client has signed one."""
        self._count(client.assertions, ASSERTIONS_PER_SECOND, "client")

    def look(self, tenant_name: str) -> None:
        """Somebody who is not known here, or whose proof is not right here, makes us look into the log."""
        tenant = self._registry.known_tenant(tenant_name)
        bucket = tenant.looked_for if tenant is not None else self._strangers
        self._count(bucket, LOOKS_PER_SECOND, "tenant")

    def _came(self, asker: Asker) -> Asker:
        if asker != self._latest:
            self._latest, self._alone_from = asker, self._now() + COMPANY_SECONDS
        return asker

    def _unknown(self, tenant_name: str) -> Asker:
        self.look(tenant_name)
        return tenant_name if self._registry.known_tenant(tenant_name) is not None else NOBODYS, STRANGER

    def _stranger(self) -> Asker:
        self._count(self._strangers, LOOKS_PER_SECOND, "tenant")
        return NOBODYS, STRANGER

    def _count(self, bucket: Bucket, rate: int, whose: str) -> None:
        if not bucket.takes(rate, self._now()):
            raise too_many(whose)
