"""Whether a log may be restored, and what a person may accept in it."""

from collections.abc import Collection

from events.grammar import Foreign
from events.subjects import STREAM
from events.verify import Report
from heirloom.commands.reading import described

NAMED = 10
"""So many foreign messages are described; all that are known are named."""


def obstacle(report: Report, accepted: Collection[str] = ()) -> str | None:
    """Why a log is not restored, and what would have it restored all the same; None if nothing is in the way.

    `accepted` names foreign messages: a sequence, or `CHECKPOINTS:` and a sequence.
    """
    if report.fault is not None:
        return f"the log of the backup is not whole: sequence {report.fault.seq}: {report.fault.why}"
    if report.strangers > len(report.foreign):
        return f"{report.strangers:,} messages of the backup's streams are foreign: too many to be accepted one by one"
    others = [foreign for foreign in report.foreign if _name(foreign) not in accepted]
    if not others:
        return None
    told = "; ".join(map(described, others[:NAMED]))
    more = f"; and {len(others) - NAMED:,} more" if len(others) > NAMED else ""
    flags = " ".join(f"--accept-foreign {_name(foreign)}" for foreign in others)
    return f"somebody else has written into the log: {told}{more}. If you know of it, restore with {flags}"


def _name(foreign: Foreign) -> str:
    return str(foreign.seq) if foreign.stream == STREAM else f"{foreign.stream}:{foreign.seq}"
