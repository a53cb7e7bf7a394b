"""A worker that answers the sequences it received: `python -m tests.events.worker.echo`."""

from events.log.stored_commit import Stored
from events.worker.child import serve


def answer(commits: list[Stored]) -> bytes:
    """The sequences, or `end` for an empty batch."""
    return b",".join(b"%d" % stored.seq for stored in commits) or b"end"


if __name__ == "__main__":
    serve(answer)
