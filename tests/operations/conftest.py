"""One service with everything on, for the tests that look at it from outside."""

from collections.abc import Iterator

import pytest

from tests.operations.seed import EVERYTHING
from tests.system.service import Service, running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two replicas, the read model, the notary, metrics and health."""
    data = tmp_path_factory.mktemp("operations") / "data"
    with running(data, "--metrics", "0", "--replicas", "2", seed=EVERYTHING) as service:
        yield service
