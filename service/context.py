"""What the service works with: `Context` for requests of clients, `AdminContext` for operators and for cut-offs."""

from typing import NamedTuple

from events.log.log import Log
from service.errors import OAuthError
from service.families.families import Families
from service.keys.keyring import Keyring
from service.read_model_client import ReadModelClient
from service.registry.registry import Registry
from service.registry.tenant import Client, Tenant
from service.replicas.book_keeper import BookKeeper
from service.replicas.broker_clock import Skew
from service.replicas.completed_cut_offs import CompletedCutOffs
from service.replicas.device_polls import DevicePolls
from service.replicas.leases import Replicas
from service.replicas.user_code_guesses import UserCodeGuesses
from service.replicas.waiting_devices import WaitingDevices
from service.request_rates import RequestRates
from service.revocations.pages import Pages


class Devices(NamedTuple):
    """What the replicas share about devices (RFC 8628): which ones wait, how often they poll, wrong user codes."""

    waiting: WaitingDevices
    polling: DevicePolls
    guesses: UserCodeGuesses


class Context(NamedTuple):
    """What endpoints, access tokens and the authentication of clients need. Constructed once, in `heirloom.app`."""

    log: Log
    registry: Registry
    families: Families
    keyring: Keyring
    skew: Skew
    rates: RequestRates
    devices: Devices
    revocations: Pages

    async def caller(self, tenant_name: str, client_id: str) -> "Caller":
        """The calling client and its tenant. Raises `invalid_client` if one is unknown, or the client is disabled."""
        tenant = await self.registry.tenant(tenant_name)
        client = await self.registry.client(tenant, client_id) if tenant is not None else None
        if tenant is None or client is None or client.state.disabled:
            raise OAuthError("invalid_client", "the client is unknown to this tenant, or disabled")
        return Caller(self, tenant, client)


class Caller(NamedTuple):
    """The client whose request is answered, its tenant, and what the service works with."""

    context: Context
    tenant: Tenant
    client: Client

    @property
    def actor(self) -> str:
        """The actor of the commits that the request leads to."""
        return f"client:{self.client.client_id}"


class AdminContext(NamedTuple):
    """What operators' commands and the reactor need. Constructed once, in `heirloom.app`."""

    log: Log
    registry: Registry
    families: Families
    keyring: Keyring
    skew: Skew
    replicas: Replicas
    read_model: ReadModelClient
    completed: CompletedCutOffs
    books: BookKeeper
