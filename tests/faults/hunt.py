"""Hunts a seeded bug: a short run on one broker, with the fault that shows it."""

import asyncio
from pathlib import Path

from tests.faults.harness.stack import Stack
from tests.faults.run import Plan, Result, run

BROUGHT_OUT_BY = {
    "lost acknowledgement taken for a failure": ["acknowledgements lost"],
    "checkpoint in its own transaction": ["projector killed within its transaction"],
}
SECONDS = 2.5


def hunt(bug: str | None, directory: Path, seed: int) -> Result:
    """Run with that bug, or without any."""
    faults = BROUGHT_OUT_BY.get(bug or "", [])
    plan = Plan(seed, SECONDS, faults, gap=(0.2, 0.5), calm=0.3, patience=5)
    return asyncio.run(run(Stack(directory / "data", bug=bug), plan, directory))
