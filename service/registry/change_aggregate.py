"""Load, decide and append for the registry's small aggregates: settings, clients, keys, roles, people."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec

from events.aggregates.aggregate_names import Aggregate, AggregateName
from events.aggregates.commit import VERSION, Commit, digest
from events.aggregates.kinds import KINDS
from events.log.appender import Conflict
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from events.log.stored_message import StoredMessage
from service import clock
from service.keys.mac_tokens import new_id

DecideChange: TypeAlias = Callable[[Any], tuple[msgspec.Struct, ...]]
"""Returns the events for an aggregate's state; the state of an aggregate that does not exist is None."""
Guard: TypeAlias = Callable[[], Awaitable[tuple[str, int, str]]]
"""Returns a subject filter that includes the aggregate, and as `Log.expected_of` the filter's last sequence."""

ACTOR = "operator"
"""Who changes these aggregates, in the log's words."""
CONFLICT_TIMEOUT_SECONDS = 1.9
"""How long a decision is made again because other commits come first."""


class Written(NamedTuple):
    """The aggregate's last commit; `changed` tells whether this call appended it."""

    stored: StoredMessage
    changed: bool


async def change(
    log: Log, aggregate: Aggregate, decide: DecideChange, guard: Guard | None = None, *, actor: str = ACTOR
) -> Written:
    """Append the events that `decide` returns for the aggregate's state; append nothing if it returns none.

    `guard` is called before each attempt. Its sequence must still be the filter's last one when the commit is stored.
    If another commit came first, decides again. Raises `Unavailable`, also after `CONFLICT_TIMEOUT_SECONDS` of
    conflicts, and `ValueError` if a new aggregate would begin without an event.
    """
    kind = KINDS[AggregateName.parse(aggregate.live).kind]
    deadline = asyncio.get_running_loop().time() + CONFLICT_TIMEOUT_SECONDS
    while True:
        guarded = await guard() if guard is not None else None
        head = await log.head(aggregate)
        last, state = head.stored, head.commit.state if head.commit is not None else None
        events = decide(state)
        if not events and last is not None:
            return Written(last, changed=False)
        now = clock.now() if head.commit is None else max(clock.now(), head.commit.at)  # no log goes back in time
        after, _ = kind.fold(state, events, now)
        if after is None:
            raise ValueError("an aggregate begins with an event")
        prev, prev_seq = (digest(last.body), last.seq) if last is not None else (None, 0)
        name = aggregate.name if last is None else None
        body = kind.codec.encode(Commit(VERSION, new_id(), now, actor, prev, prev_seq, events, after, name))
        try:
            if guarded is None:
                seq = await log.append(aggregate.live, aggregate.filter, body, head.expected, stream=head.stream)
            else:
                filter, expected, stream = guarded
                place = aggregate.filter, body, head.expected
                seq = await log.append(aggregate.live, *place, guard=(filter, expected), stream=stream)
        except Conflict:
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable("too many orders about one thing at once") from None
            continue
        return Written(StoredMessage(seq, aggregate.live, body), changed=True)
