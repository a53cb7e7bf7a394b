"""A worker that answers the sequences it received: `python -m tests.events.worker.echo`."""

from events.log.stored_message import StoredMessage
from events.worker.child import serve


def answer(commits: list[StoredMessage]) -> bytes:
    """The sequences, or `end` for an empty batch."""
    return b",".join(b"%d" % stored.seq for stored in commits) or b"end"


if __name__ == "__main__":
    serve(answer)
