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


def test_no_promise_is_broken_while_books_close(tmp_path: Path) -> None:
    """One broker, two replicas; again and again the log's book is closed, and replicas die or lose what they hear."""
    faults = ("book closed", "replica killed between append and reply", "book closed", "acknowledgements lost")
    plan = Plan(SEED, seconds=12, faults=faults, gap=(0.1, 0.3), calm=1)
    result = asyncio.run(run(Stack(tmp_path / "data"), plan, tmp_path))
    assert result.violations == []
    assert {name for _, name in result.faults} >= {"book closed"}
    assert list((tmp_path / "data").glob("**/streams/TOKENS_3")), "two books were closed"
