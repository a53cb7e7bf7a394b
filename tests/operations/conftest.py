"""One service with everything on, for the tests that look at it from outside."""

from collections.abc import Iterator

import pytest

from tests.operations.collector import Collector, collecting
from tests.operations.seed import EVERYTHING
from tests.system.service import Service, running


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """Where the service's traces go."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    """Two replicas, the read model, the notary, metrics and health, traces."""
    data = tmp_path_factory.mktemp("operations") / "data"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with running(data, "--metrics", "0", "--replicas", "2", seed=EVERYTHING) as service:
            yield service
