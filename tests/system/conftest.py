"""Two running services for all tests of a worker that leave them as they find them."""

import re
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.system.service import Service, running
from tests.system.workspace import Clients, Workspace, made

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two replicas on a broker of their own."""
    with running(tmp_path_factory.mktemp("service") / "data", "--replicas", "2") as service:
        yield service


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One process of each kind, so that nobody else answers while it is dead; one tenant, the one of the README."""
    (seed,) = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    with running(tmp_path_factory.mktemp("alone") / "data", seed=seed) as service:
        yield service


@pytest.fixture
async def workspace(service: Service) -> AsyncIterator[Workspace]:
    """A tenant of the test's own."""
    async with made(service) as workspace:
        yield workspace


@pytest.fixture
async def clients(workspace: Workspace) -> AsyncIterator[Clients]:
    """Of the test's own tenant."""
    async with AsyncExitStack() as stack:
        yield Clients(workspace, stack)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the service said."""
    report = yield
    used = [given for given in getattr(item, "funcargs", {}).values() if isinstance(given, Service)]
    if report.failed:
        report.sections += [("the service", service.said()) for service in used]
    return report
