"""HTTP as probes and Prometheus use it."""

import asyncio
import json
import urllib.request
from typing import Any, NamedTuple
from urllib.error import HTTPError

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from heirloom.data_directory import DataDirectory
from tests.system.service import Service


class Response(NamedTuple):
    """An HTTP response."""

    status: int
    body: str

    @property
    def json(self) -> Any:
        """The body of a health check."""
        return json.loads(self.body)


async def get(service: Service, path: str) -> Response:
    """GET from the service's HTTP port."""
    address = json.loads(DataDirectory(service.data).run_file.read_text())["metrics"]
    return await asyncio.to_thread(_get, f"http://{address}{path}")


async def metrics(service: Service) -> dict[str, Metric]:
    """All metrics by name, as Prometheus parses them."""
    told = await get(service, "/metrics")
    assert told.status == 200
    return {family.name: family for family in text_string_to_metric_families(told.body)}


def total(families: dict[str, Metric], name: str, **labels: str) -> float:
    """The sum over all processes of the samples with these labels."""
    samples = (sample for family in families.values() for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


def _get(url: str) -> Response:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return Response(response.status, response.read().decode())
    except HTTPError as refused:
        with refused:
            return Response(refused.code, refused.read().decode())
