"""The rates of requests, checked before more of a request than its subject is read (ADR 0032).

They are token buckets in this replica's memory, for tenants and clients that the log has: made-up names take no memory.
"""

import time
from collections.abc import Callable

from events.fairness.fair_queue import Requester
from events.fairness.token_buckets import Bucket
from service.refusal import too_many
from service.registry.registry import Registry
from service.registry.tenant import Client

EDGE_PER_SECOND = 10_000
"""A tenant's requests from edges, before their client is known."""
PUBLIC_PER_SECOND = 1_000
"""Requests for a tenant's keys and metadata."""
RESOURCES_PER_SECOND = 1_000
"""Requests of a tenant's resource servers for the revocation feed."""
PERSONS_PER_SECOND = 1_000
"""Requests of all people with a token of one client, together: a request does not say which person sends it."""
LOOKS_PER_SECOND = 1_000
"""Reads of the log for a tenant's clients that are unknown here, or whose proof does not match what is known here."""
ASSERTIONS_PER_SECOND = 200
"""Assertions of a client. The broker writes each to disk, and keeps it for a quarter of an hour."""

COMPANY_SECONDS = 2.0
"""How long nobody counts as alone after the request of another client."""

EDGE, RESOURCE, PUBLIC, STRANGER = "*edge", "*resource", "*public", "*stranger"
"""Requesters that are no client: those of a tenant together. No client can have such a name."""
PERSONS = "*persons of "
"""The requester of all people with a token of one client is this, followed by the client's name."""
NOBODYS = "*"
"""The name that stands for all unknown tenants."""


class RequestRates:
    """Counts requests, each for one requester, which is returned. Raises `slow_down` for a request beyond its rate."""

    def __init__(self, registry: Registry, now: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._now = now
        self._strangers = Bucket()
        self._latest: Requester | None = None
        self._alone_from = float("-inf")

    def alone(self) -> Requester | None:
        """The requester that was the only one for `COMPANY_SECONDS`; None if there were several. Edges do not count."""
        return self._latest if self._now() >= self._alone_from else None

    def client(self, tenant_name: str, client_id: str) -> Requester:
        """Count a request of a client that is proved, at that client's own rate."""
        client = self._registry.known_client(tenant_name, client_id)
        if client is None:
            return self._unknown(tenant_name)
        self._count(client.bucket, client.rules.requests_per_second, "client")
        return self._came((tenant_name, client_id))

    def person(self, tenant_name: str, client_id: str) -> Requester:
        """Count a request of somebody with a person's token of that client; it never counts for the client."""
        client = self._registry.known_client(tenant_name, client_id)
        if client is None:
            return self._unknown(tenant_name)
        self._count(client.persons, PERSONS_PER_SECOND, "client's people")
        return self._came((tenant_name, PERSONS + client_id))

    def edge(self, tenant_name: str) -> Requester:
        """Count a request from an edge, whose client is not proved yet."""
        tenant = self._registry.known_tenant(tenant_name)
        if tenant is None:
            return self._stranger()
        self._count(tenant.from_edges, EDGE_PER_SECOND, "tenant")
        return tenant_name, EDGE

    def public(self, tenant_name: str) -> Requester:
        """Count a request of a public endpoint."""
        tenant = self._registry.known_tenant(tenant_name)
        if tenant is None:
            return self._stranger()
        self._count(tenant.public, PUBLIC_PER_SECOND, "tenant")
        return tenant_name, PUBLIC

    def resource(self, tenant_name: str) -> Requester:
        """Count a request of a resource server."""
        tenant = self._registry.known_tenant(tenant_name)
        if tenant is None:
            return self._stranger()
        self._count(tenant.resources, RESOURCES_PER_SECOND, "tenant")
        return tenant_name, RESOURCE

    def assertion(self, client: Client) -> None:
        """Count an assertion that a client has signed."""
        self._count(client.assertions, ASSERTIONS_PER_SECOND, "client")

    def look(self, tenant_name: str) -> None:
        """Count a read of the log for a client that is unknown here, or whose proof does not match here."""
        tenant = self._registry.known_tenant(tenant_name)
        bucket = tenant.looked_for if tenant is not None else self._strangers
        self._count(bucket, LOOKS_PER_SECOND, "tenant")

    def _came(self, requester: Requester) -> Requester:
        if requester != self._latest:
            self._latest, self._alone_from = requester, self._now() + COMPANY_SECONDS
        return requester

    def _unknown(self, tenant_name: str) -> Requester:
        self.look(tenant_name)
        return tenant_name if self._registry.known_tenant(tenant_name) is not None else NOBODYS, STRANGER

    def _stranger(self) -> Requester:
        self._count(self._strangers, LOOKS_PER_SECOND, "tenant")
        return NOBODYS, STRANGER

    def _count(self, bucket: Bucket, rate: int, whose: str) -> None:
        if not bucket.try_take(rate, self._now()):
            raise too_many(whose)
