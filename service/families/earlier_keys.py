"""The keys with which an older generation was redeemed, read back from a family's earlier commits (ADR 50)."""

from events.aggregates.aggregate_names import Aggregate
from events.aggregates.family import MAX_LATE_DUPLICATES
from events.aggregates.family_events import LateDuplicateRefused, TokenRedeemed
from events.log.log import Log

MAX_COMMITS_BACK = 32
"""How many of the family's last commits are searched. A key that redeemed a generation before them is not found.

Records of late duplicates are read besides and do not count: else those that are spared would shorten the search for
the next ones. A family has at most `MAX_LATE_DUPLICATES` of them.
"""


async def keys_of(log: Log, family: Aggregate, last: int, generation: int) -> tuple[str, ...]:
    """The digests of the `Idempotency-Key`s that redeemed that generation; `last` is the family's last sequence.

    Commits do not change, so the answer holds for every later commit of the family too. Raises `Unavailable`, and
    `UnreadableCommit`.
    """
    keys: list[str] = []
    seq, searched = last, 0
    for _ in range(MAX_COMMITS_BACK + MAX_LATE_DUPLICATES):
        if searched == MAX_COMMITS_BACK:
            break
        commit = await log.commit_at(family, seq)
        if commit is None:
            break
        searched += type(commit.events[0]) is not LateDuplicateRefused
        for event in commit.events:
            if isinstance(event, TokenRedeemed) and event.credential == "refresh_token":
                if event.generation < generation:
                    return tuple(keys)
                if event.generation == generation and event.retry is not None:
                    keys.append(event.retry.key)
        seq = commit.prev_seq
    return tuple(keys)
