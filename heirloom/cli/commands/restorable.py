"""Whether a log may be restored, and which foreign messages a person may accept in it."""

import re
from collections.abc import Collection

import click

from events.aggregates.aggregate_names import CHECKPOINTS, STREAM
from events.log.grammar import Foreign
from events.verification.verifier import Report
from heirloom.cli.log_connection import described
from heirloom.cli.tables import print_text

NAME = re.compile(rf"({CHECKPOINTS}:)?[1-9][0-9]{{0,18}}")
NAMED = 10
"""How many foreign messages are described; all of them are named."""


def obstacle(report: Report, accepted: Collection[str] = ()) -> str | None:
    """Why a log is not restored, and how it would be all the same; None where nothing prevents it.

    `accepted` names foreign messages: a sequence, or `CHECKPOINTS:` and a sequence.
    """
    if report.fault is not None:
        return f"the log of the backup is not whole: sequence {report.fault.seq}: {report.fault.why}"
    if report.foreign_count > len(report.foreign):
        return (
            f"{report.foreign_count:,} messages of the backup's streams are foreign: too many to be accepted one by one"
        )
    others = [foreign for foreign in report.foreign if _name(foreign) not in accepted]
    if not others:
        return None
    listed = "; ".join(map(described, others[:NAMED]))
    more = f"; and {len(others) - NAMED:,} more" if len(others) > NAMED else ""
    flags = " ".join(f"--accept-foreign {_name(foreign)}" for foreign in others)
    return f"somebody else has written into the log: {listed}{more}. If you know of it, restore with {flags}"


def names(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Names of foreign messages, validated."""
    for name in given:
        if not NAME.fullmatch(name):
            raise click.BadParameter(f"{name!r} is neither a sequence nor {CHECKPOINTS}:SEQ")
    return given


def report_accepted(report: Report, accepted: Collection[str]) -> None:
    """Report which of these messages were accepted although foreign, and which are not foreign at all."""
    foreign = {_name(each) for each in report.foreign}
    if was := [name for name in accepted if name in foreign]:
        print_text(f"accepted, although foreign: {', '.join(was)}; heirloom audit verify goes on naming them")
    if was_not := [name for name in accepted if name not in foreign]:
        print_text(f"not foreign, so there was nothing to accept: {', '.join(was_not)}")


def _name(foreign: Foreign) -> str:
    return str(foreign.seq) if foreign.stream == STREAM else f"{foreign.stream}:{foreign.seq}"
