"""A short run of what `make fuzz-bus` does for longer."""

from tests.fuzz.bus import fuzz_bus
from tests.system.service import Service


async def test_arbitrary_lines_leave_the_log_and_everybody_else_alone(service: Service) -> None:
    """Whoever may connect publishes what the broker lets through; once one such line wrote into the log, for good."""
    figures = await fuzz_bus(service, 4_000, seed=20261129)
    assert figures.lines.total() == 4_000
    assert figures.bystander["ok"] > 0
