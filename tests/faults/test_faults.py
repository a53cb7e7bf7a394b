"""A short run of `make faults`, on a cluster."""

import asyncio
from pathlib import Path

from tests import leaks
from tests.faults.harness.stack import Stack
from tests.faults.run import Plan, run

SEED = 20261121
FAULTS = (
    "leader killed",
    "link delays",
    "acknowledgements lost",
    "replica killed between append and reply",
    "projector killed within its transaction",
)


def test_no_promise_is_broken(tmp_path: Path) -> None:
    """Three brokers, two replicas, twenty-four busy families, five faults."""
    plan = Plan(SEED, seconds=9, faults=FAULTS, gap=(0.2, 0.6), calm=1)
    result = asyncio.run(run(Stack(tmp_path / "data", cluster=3), plan, tmp_path))
    assert result.violations == []
    assert {name for _, name in result.faults} == set(FAULTS)
    assert leaks.tokens([tmp_path / "history.jsonl"]) == []
