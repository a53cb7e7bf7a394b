"""A short run of what `make fuzz` sends to the endpoints."""

from tests.fuzz.endpoints import fuzz_endpoints
from tests.system.service import Service


async def test_every_request_gets_a_proper_reply(service: Service) -> None:
    """Whatever the request and the endpoint: a reply in the right form, no internal failure, no commit if refused."""
    figures = await fuzz_endpoints(service, 2_000, seed=20261121)
    assert figures.requests == 2_000
    assert figures.outcomes["ok"] > 100
    assert figures.outcomes["invalid_request"] > 100
    assert "a request failed" not in service.said()
