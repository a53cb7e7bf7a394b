"""What an endpoint works with."""

import time
from typing import NamedTuple

from events.log import Log
from service.completed import Completed
from service.errors import OAuthError
from service.families import Families
from service.keyring import Keyring
from service.polling import Polling
from service.rate import too_many
from service.read_model import ReadModel
from service.registry import Client, Registry, Tenant
from service.replicas import Replicas
from service.skew import Skew


class Context(NamedTuple):
    """Built once, in the composition root."""

    log: Log
    registry: Registry
    families: Families
    keyring: Keyring
    polling: Polling
    replicas: Replicas
    read_model: ReadModel
    completed: Completed
    skew: Skew

    async def caller(self, tenant_name: str, client_id: str) -> tuple[Tenant, Client]:
        """The tenant and the client that asks, once for each request.

        Raises as `known`, and `slow_down` where it asks too often.
        """
        tenant, client = await self.known(tenant_name, client_id)
        if not client.bucket.takes(client.rules.requests_per_second, time.monotonic()):
            raise too_many("client")
        return tenant, client

    async def known(self, tenant_name: str, client_id: str) -> tuple[Tenant, Client]:
        """The tenant and the client. Raises `invalid_client` where either is unknown or may not ask."""
        tenant = await self.registry.tenant(tenant_name)
        client = await self.registry.client(tenant, client_id) if tenant is not None else None
        if tenant is None or client is None or client.state.disabled:
            raise OAuthError("invalid_client", "the client is unknown to this tenant, or disabled")
        return tenant, client
