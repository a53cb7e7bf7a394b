"""The keys with which an older generation was redeemed, read back from a family's earlier commits (ADR 50)."""

from collections.abc import Callable
from typing import TypeAlias

from events.aggregates.aggregate_names import Aggregate
from events.aggregates.family_events import TokenRedeemed
from events.log.log import Log

MAX_COMMITS_BACK = 32
"""How many of the family's last commits are read. A key that redeemed a generation before them is not found."""

Count: TypeAlias = Callable[[], None]
"""Counts one more read as a request of the caller."""


def count_nothing() -> None:
    """Earlier keys decide nothing here, so no commit is read."""


async def keys_of(log: Log, family: Aggregate, last: int, generation: int, count: Count) -> tuple[str, ...]:
    """The digests of the `Idempotency-Key`s that redeemed that generation; `last` is the family's last sequence.

    Commits do not change, so the answer holds for every later commit of the family too. Raises `Unavailable`, and
    `UnreadableCommit`.
    """
    keys: list[str] = []
    seq = last
    for _ in range(MAX_COMMITS_BACK):
        count()
        commit = await log.commit_at(family, seq)
        if commit is None:
            break
        for event in commit.events:
            if isinstance(event, TokenRedeemed) and event.credential == "refresh_token":
                if event.generation < generation:
                    return tuple(keys)
                if event.generation == generation and event.retry is not None:
                    keys.append(event.retry.key)
        seq = commit.prev_seq
    return tuple(keys)
