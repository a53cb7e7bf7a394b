"""The audit's answers as tables for people."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

import click
import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from events.visible_text import visible

Answer: TypeAlias = dict[str, Any]
Row: TypeAlias = tuple[str | Text, ...]

PIPE_WIDTH = 200
"""The width of a table that goes to no terminal, in columns."""

ACTIVITY_COUNTS = ("begun", "issued", "refreshed", "revoked", "tokens_revoked", "reuse", "forged")
"""Those of `projections.tables.activity`, whose imports would slow every command down."""

LATE = "late_duplicate"
"""The reason of an incident that ended nothing; its token is no stolen one."""
GAP = 2
NUMBERS = {"seq", "gen", "newest", "seconds left"}
NUMBERS |= {name.replace("_", " ") for name in ACTIVITY_COUNTS}
FOLDING = {"scope", "cause", "more", "subject", "what"}
"""Columns whose cells may fold; every other value is there to be copied, and stays whole."""


def print_text(text: str, *, err: bool = False) -> None:
    """Print lines of text, parts of which others may have chosen."""
    click.echo(visible(text, keep="\n"), err=err)


def print_json(answer: Answer) -> None:
    """Print JSON for pipes and terminals: invisible characters are escaped."""
    click.echo(_INVISIBLE.sub(_escape, msgspec.json.encode(answer).decode()))


_INVISIBLE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def print_families(answer: Answer) -> None:
    """Print a page of families."""
    print_page(answer, ("began", "family", "client", "subject", "status", "gen", "ends", "scope"), _family_row)


def print_revocations(answer: Answer) -> None:
    """Print a page of revocations."""
    print_page(answer, ("when", "seq", "family", "client", "subject", "reason", "who", "cause"), _revocation_row)


def print_incidents(answer: Answer) -> None:
    """Print a page of incidents."""
    columns = "when", "seq", "family", "client", "subject", "incident", "newest", "by"
    print_page(answer, columns, _incident_row)


def print_page(answer: Answer, columns: tuple[str, ...], row: Callable[[Answer], Row]) -> None:
    """Print the items as a table of these columns, and how to request the next page."""
    if not answer["items"]:
        click.echo("none")
        return
    print_rows(columns, [row(item) for item in answer["items"]])
    if answer["cursor"] is not None:
        click.echo(f"more: {_to_go_on(answer)}")


def _to_go_on(answer: Answer) -> str:
    """The options for the next page: the cursor, and the times that belong to it."""
    options = {"since": "--since", "until": "--until", "at": "as-of"}
    times = [f"{options[name]} {time}" for name, time in answer.get("asked", {}).items()]
    return " ".join([*times, f"--cursor {answer['cursor']}"])


def print_rows(columns: tuple[str, ...], rows: Sequence[Row]) -> None:
    """Print a table; on a terminal that is too narrow for its values, a block of lines for each row."""
    needed = _narrowest(columns, rows)
    screen = console(needed)
    if needed > screen.width:
        _print_blocks(columns, rows)
        return
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, GAP, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in NUMBERS else "left"
        table.add_column(column, justify=justify, no_wrap=column not in FOLDING, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in row))
    screen.print(table)


def _narrowest(columns: tuple[str, ...], rows: Sequence[Row]) -> int:
    """The width in which no value is cut, and no folded cell breaks a word."""
    width = -GAP
    for column, *values in zip(columns, *rows, strict=True):
        pieces = " ".join(map(str, values)).split() if column in FOLDING else map(str, values)
        width += max(map(cell_len, [column, *pieces])) + GAP
    return width


def _print_blocks(columns: tuple[str, ...], rows: Sequence[Row]) -> None:
    for row in rows:
        print_facts({column: value for column, value in zip(columns, row, strict=True) if str(value)})
        click.echo()


def print_family(answer: Answer) -> None:
    """Print a family's state, and then its timeline."""
    screen = console()
    screen.print(_summary(answer))
    screen.print()
    print_rows(("when", "seq", "gen", "what", "who", "more"), [_life_row(entry) for entry in answer["timeline"]])


def console(needed: int = 0) -> Console:
    """Standard output; where it is no terminal, wide enough."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=max(PIPE_WIDTH, needed))


def _summary(answer: Answer) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("family", plain(answer["family_id"]))
    table.add_row("status", _status(answer))
    table.add_row("client", plain(answer["client_id"]))
    table.add_row("subject", plain(answer["sub"]))
    table.add_row("scope", plain(answer["scope"]))
    table.add_row("began", Text(f"{when(answer['opened_at'])} by {answer['grant']}"))
    table.add_row("ends", Text(when(answer["expires_at"])))
    return table


def _life_row(entry: Answer) -> Row:
    generation = "" if _is_code(entry) else str(entry.get("generation", ""))
    return when(entry["at"]), str(entry["seq"]), generation, _what(entry), plain(entry["actor"]), _more(entry)


def _family_row(item: Answer) -> Row:
    generation = "" if item["generation"] is None else str(item["generation"])
    who = plain(item["family_id"]), plain(item["client_id"]), plain(item["sub"])
    return when(item["opened_at"]), *who, _status(item), generation, when(item["expires_at"]), plain(item["scope"])


def _revocation_row(item: Answer) -> Row:
    who = plain(item["family_id"]), plain(item["client_id"]), plain(item["sub"])
    cause = item["cause"] or (f"access token {item['jti']}" if "jti" in item else "")
    return when(item["at"]), str(item["seq"]), *who, plain(item["reason"]), plain(item["actor"]), plain(cause)


def _incident_row(item: Answer) -> Row:
    who = plain(item["family_id"]), plain(item["client_id"]), plain(item["sub"])
    style = "" if item["reason"] == LATE else "red"
    what = Text(shown(item["reason"], item["generation"]), style), newest(item["reason"], item["current_generation"])
    return when(item["at"]), str(item["seq"]), *who, *what, plain(item["presented_by"])


def shown(reason: str, generation: int) -> str:
    """What was presented in an incident of this reason; a code has no generation."""
    if reason == "code_reuse":
        return "code shown again"
    how = {"forgery": ", never issued, shown", LATE: " sent again, late"}.get(reason, " shown again")
    return f"generation {generation}{how}"


def newest(reason: str, generation: int) -> str:
    """The family's generation at the time, where it differs from the presented one as a part of the incident."""
    return "" if reason == "code_reuse" else str(generation)


def print_facts(facts: Answer) -> None:
    """Print facts, one a line, without those that are None.

    Lines are not folded: one may be a credential, shown only once; a line that the terminal folds is copied whole.
    """
    known = {name: fact for name, fact in facts.items() if fact is not None}
    width = max(map(cell_len, known), default=0) + GAP
    screen = console()
    for name, fact in known.items():
        value = fact if isinstance(fact, Text) else plain(str(fact))
        screen.print(Text.assemble((name.ljust(width), "dim"), value), soft_wrap=True)


def _status(item: Answer) -> Text:
    text = item["status"] if item["reason"] is None else f"{item['status']} ({item['reason']})"
    return plain(text, {"live": "green", "revoked": "red"}.get(item["status"], "dim"))


def _what(entry: Answer) -> Text:
    bad = {"TokenReuseDetected", "ForgeryDetected", "FamilyRevoked", "TokenRevoked"}
    return plain(", ".join(entry["types"]), "red" if bad & set(entry["types"]) else "")


def _more(entry: Answer) -> Text:
    """Details that the types alone do not show."""
    details = []
    if "current_generation" in entry:
        details.append(_presented(entry))
    if "reason" in entry:
        details.append(entry["reason"])
    if "cause" in entry:
        details.append(entry["cause"])
    if "jti" in entry:
        details.append(f"jti {entry['jti']}")
    return plain(" · ".join(details))


def _presented(entry: Answer) -> str:
    """Who presented it; the row shows the generation."""
    if _is_code(entry):
        return f"code shown again by {entry['presented_by']}"
    how = {"forgery": "never issued, shown", LATE: "sent again, late,"}.get(entry.get("reason", ""), "shown")
    return f"{how} by {entry['presented_by']} at generation {entry['current_generation']}"


def _is_code(entry: Answer) -> bool:
    """Whether the entry of a timeline is about a code that was presented again."""
    return "TokenReuseDetected" in entry["types"] and entry.get("reason") == "code_reuse"


def plain(text: str, style: str = "") -> Text:
    """Text that clients chose, which may contain anything, terminal commands included."""
    return Text(visible(text), style)


def when(time: str | None) -> str:
    """The time to the millisecond, in UTC, for people to compare."""
    if time is None:
        return ""
    return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
