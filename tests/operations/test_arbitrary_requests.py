"""A short run over the endpoints of what `make fuzz` does for longer."""

from tests.fuzz.endpoints import fuzz_endpoints
from tests.system.service import Service


async def test_every_request_is_well_answered(service: Service) -> None:
    """Whatever is asked of whatever endpoint: an answer in its form, no failure inside, and no commit for a refusal."""
    figures = await fuzz_endpoints(service, 2_000, seed=20261121)
    assert figures.requests == 2_000
    assert figures.outcomes["ok"] > 100
    assert figures.outcomes["invalid_request"] > 100
    assert "a request failed" not in service.said()
