"""One service with everything on, for tests that observe it from outside."""

from collections.abc import Iterator

import pytest

from tests.operations.collector import Collector, collecting
from tests.operations.seed import EVERYTHING
from tests.system.service import Service, running


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """The collector of the service's traces."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    """Two replicas, read model, notary, metrics, health and traces."""
    data = tmp_path_factory.mktemp("operations") / "data"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with running(data, "--metrics", "0", "--replicas", "2", seed=EVERYTHING) as service:
            yield service
