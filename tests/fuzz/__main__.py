"""`python -m tests.fuzz [INPUTS [SEED]]`: every parser, then every endpoint of its own service.

`python -m tests.fuzz bus [LINES [SEED]]`: lines of the broker's protocol, from every kind of connection.
"""

import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fuzz.bus import fuzz_bus
from tests.fuzz.endpoints import fuzz_endpoints
from tests.fuzz.run import Crash, Figures, fuzz_parsers
from tests.operations.seed import EVERYTHING
from tests.system.service import Service

FOR_ENDPOINTS = 10
"""Inputs to the parsers for one request to an endpoint, which takes that much longer."""


def main(inputs: int, seed: int) -> None:
    """Print the counts of inputs and requests. Exits with 1 and the input that broke something."""
    print(f"seed {seed}", flush=True)
    started = time.perf_counter()
    figures = fuzz_parsers(inputs, seed, _tell)
    taken = time.perf_counter() - started
    print(
        f"{sum(each.inputs for each in figures.values()):,} inputs to {len(figures)} parsers in {taken:.0f} s, no crash"
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory, _service(Path(directory)) as service:
        asked = asyncio.run(fuzz_endpoints(service, inputs // FOR_ENDPOINTS, seed))
    for outcome, count in asked.outcomes.most_common():
        print(f"  {outcome:28} {count:>9,}")
    taken = time.perf_counter() - started
    print(
        f"{asked.requests:,} requests to every endpoint in {taken:.0f} s, each well answered; {asked.commits:,} commits"
    )


def over_the_bus(lines: int, seed: int) -> None:
    """As `main`, with lines of the broker's protocol."""
    print(f"seed {seed}", flush=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory, _service(Path(directory)) as service:
        sent = asyncio.run(fuzz_bus(service, lines, seed))
    for who, count in sent.lines.items():
        print(f"  {who:28} {count:>9,}")
    print(f"  connections ended for it     {sent.ended:>9,}")
    for outcome, count in sent.bystander.most_common():
        print(f"  a bystander: {outcome:15} {count:>9,}")
    taken = time.perf_counter() - started
    print(
        f"{sent.lines.total():,} lines in {taken:.0f} s: the log as before but for {sent.commits:,} commits of the"
        " client's own requests; no connection of the service lost; every request of the bystander answered"
    )


@contextmanager
def _service(directory: Path) -> Iterator[Service]:
    """Without the search for leaked tokens: some requests have a token as `sub`, which is stored."""
    service = Service(directory / "data", "--replicas", "2", seed=EVERYTHING)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def _tell(name: str, figures: Figures) -> None:
    refused = figures.refused / max(figures.inputs, 1)
    print(
        f"  {name:28} {figures.inputs:>9,}   refused {refused:>4.0%}   slowest {figures.slowest * 1000:7.2f} ms",
        flush=True,
    )


if __name__ == "__main__":
    try:
        fuzz = over_the_bus if sys.argv[1:2] == ["bus"] else main
        given = [int(argument) for argument in sys.argv[1:] if argument != "bus"]
        fuzz(given[0] if given else 1_000_000, given[1] if given[1:] else secrets.randbelow(10**9))
    except (Crash, ExceptionGroup) as crash:
        sys.exit(f"broken: {crash.exceptions[0] if isinstance(crash, ExceptionGroup) else crash}")
