"""One running service for the tests of the client library, which comes as its users do: with its own credentials."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from heirloom_client import Client
from tests.system.service import Service, running
from tests.system.workspace import Clients, Workspace, made


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two replicas on a broker of their own."""
    with running(tmp_path_factory.mktemp("client") / "data", "--replicas", "2") as service:
        yield service


@pytest.fixture
async def workspace(service: Service) -> AsyncIterator[Workspace]:
    """A tenant of the test's own."""
    async with made(service) as workspace:
        yield workspace


@pytest.fixture
async def clients(workspace: Workspace) -> AsyncIterator[Clients]:
    """Of the test's own tenant, past the library."""
    async with AsyncExitStack() as stack:
        yield Clients(workspace, stack)


@pytest.fixture
async def oauth(workspace: Workspace) -> AsyncIterator[Client]:
    """The client `app` of the test's own tenant, by its secret."""
    async with await connected(workspace, "app") as oauth:
        yield oauth


async def connected(workspace: Workspace, client_id: str, **settings: object) -> Client:
    """A client that is registered now, as `CLIENTS` has it, by its secret."""
    secret = await workspace.register(client_id, secret=True, **settings)
    url = f"nats://{workspace.service.host}"
    return Client.connect(url, tenant=workspace.name, client_id=client_id, secret=secret)
