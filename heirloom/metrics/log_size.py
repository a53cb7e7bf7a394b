"""The size of the log, and a warning where its open book is too large for a broker to restart quickly (ADR 46)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nats.errors import Error as NatsError

from events.log.jetstream_api import Unavailable
from events.log.stream import StreamSize
from heirloom.process.process_report import Metric, gauge, only

log = logging.getLogger("heirloom.replica")

MAX_INDEXED_SUBJECTS = 1_000_000
"""Of a stream with more subjects, nats-server writes its index only when it is stopped in order."""
WARNING_SUBJECTS = MAX_INDEXED_SUBJECTS * 11 // 10
"""A tenth more than that: a book is closed before it has so many, unless that is prevented or was set otherwise."""
CHECK_SECONDS = 60.0


def warning(size: StreamSize) -> str | None:
    """What somebody should know of a log of that size, in words; None while its open book is small."""
    if size.subjects <= WARNING_SUBJECTS:
        return None
    return (
        f"the log's open book has {size.subjects:,} subjects, more than {MAX_INDEXED_SUBJECTS:,}: a broker that was "
        "killed reads all of it at its start, some 5.5 s a million messages; `heirloom admin log close` closes it"
    )


def of_log_size(size: StreamSize) -> list[Metric]:
    """The figures of the log's books."""
    return [
        gauge("log_messages", "Messages in the log.", only(size.messages)),
        gauge(
            "log_subjects",
            "Subjects in the log's open book: one of a family, two once it has revoked something.",
            only(size.subjects),
        ),
        gauge("log_bytes", "Bytes of the log in one copy.", only(size.bytes)),
    ]


async def watch(read_size: Callable[[], Awaitable[StreamSize]]) -> None:
    """Log the warning once it is due, and again where the log has grown by a tenth, for ever."""
    warned_of = 0
    while True:
        try:
            size = await read_size()
        except (Unavailable, NatsError):
            pass  # other parts report that the log has no leader
        else:
            if (text := warning(size)) is not None and 10 * size.subjects >= 11 * warned_of:
                log.warning("%s", text)
                warned_of = size.subjects
        await asyncio.sleep(CHECK_SECONDS)
