"""A short run of `make fuzz-bus`."""

from tests.fuzz.bus import fuzz_bus
from tests.system.service import Service


async def test_arbitrary_lines_change_nothing(service: Service) -> None:
    """Neither the log nor other connections; such a line, once accepted by the broker, wrote into the log for good."""
    figures = await fuzz_bus(service, 4_000, seed=20261129)
    assert figures.lines.total() == 4_000
    assert figures.bystander["ok"] > 0
