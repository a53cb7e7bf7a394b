"""What an endpoint works with."""

from typing import NamedTuple

from events.log import Log
from service.completed import Completed
from service.door import Door
from service.errors import OAuthError
from service.families import Families
from service.guesses import Guesses
from service.keyring import Keyring
from service.polling import Polling
from service.read_model import ReadModel
from service.registry import Client, Registry, Tenant
from service.replicas import Replicas
from service.skew import Skew
from service.waiting import Waiting


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
    door: Door
    waiting: Waiting
    guesses: Guesses

    async def caller(self, tenant_name: str, client_id: str) -> tuple[Tenant, Client]:
        """The tenant and the client that asks. Raises `invalid_client` where either is unknown or may not ask."""
        tenant = await self.registry.tenant(tenant_name)
        client = await self.registry.client(tenant, client_id) if tenant is not None else None
        if tenant is None or client is None or client.state.disabled:
            raise OAuthError("invalid_client", "the client is unknown to this tenant, or disabled")
        return tenant, client
