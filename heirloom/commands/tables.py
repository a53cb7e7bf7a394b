"""The audit's answers as tables for people."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

Answer: TypeAlias = dict[str, Any]
Row: TypeAlias = tuple[str | Text, ...]

PIPE_WIDTH = 200
"""Columns of a table that no terminal shows."""


def print_json(answer: Answer) -> None:
    """For pipes."""
    click.echo(msgspec.json.encode(answer).decode())


def print_families(answer: Answer) -> None:
    """A page of families."""
    print_page(answer, ("began", "family", "client", "subject", "status", "gen", "ends", "scope"), _family_row)


def print_revocations(answer: Answer) -> None:
    """A page of revocations."""
    print_page(answer, ("when", "seq", "family", "client", "subject", "reason", "who", "cause"), _revocation_row)


def print_incidents(answer: Answer) -> None:
    """A page of incidents."""
    columns = "when", "seq", "family", "client", "subject", "incident", "shown", "current", "by"
    print_page(answer, columns, _incident_row)


def print_page(answer: Answer, columns: tuple[str, ...], row: Callable[[Answer], Row]) -> None:
    """The items as a table of these columns, and how to ask for more."""
    if not answer["items"]:
        click.echo("none")
        return
    table = _table(*columns)
    for item in answer["items"]:
        table.add_row(*row(item))
    console().print(table)
    if answer["cursor"] is not None:
        click.echo(f"more: --cursor {answer['cursor']}")


def print_family(answer: Answer) -> None:
    """What it is, and then its life."""
    screen = console()
    screen.print(_summary(answer))
    screen.print()
    table = _table("when", "seq", "gen", "what", "who", "more")
    for entry in answer["timeline"]:
        generation = str(entry.get("generation", ""))
        row = when(entry["at"]), str(entry["seq"]), generation, _what(entry), plain(entry["actor"]), _more(entry)
        table.add_row(*row)
    screen.print(table)


def console() -> Console:
    """Standard output, wide enough where it is no terminal."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        number = column in ("seq", "gen", "shown", "current")
        folds = column in ("scope", "cause", "more", "subject")
        table.add_column(column, justify="right" if number else "left", no_wrap=not folds, overflow="fold")
    return table


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
    generations = str(item["generation"]), str(item["current_generation"])
    return (
        when(item["at"]),
        str(item["seq"]),
        *who,
        Text(item["type"], "red"),
        *generations,
        plain(item["presented_by"]),
    )


def print_facts(facts: Answer) -> None:
    """What is known, a line each; what is not known is left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        if fact is not None:
            table.add_row(name, fact if isinstance(fact, Text) else plain(str(fact)))
    console().print(table)


def _status(item: Answer) -> Text:
    text = item["status"] if item["reason"] is None else f"{item['status']} ({item['reason']})"
    return plain(text, {"live": "green", "revoked": "red"}.get(item["status"], "dim"))


def _what(entry: Answer) -> Text:
    bad = {"TokenReuseDetected", "ForgeryDetected", "FamilyRevoked", "TokenRevoked"}
    return plain(", ".join(entry["types"]), "red" if bad & set(entry["types"]) else "")


def _more(entry: Answer) -> Text:
    """What the types alone do not tell."""
    told = []
    if "current_generation" in entry:
        told.append(f"shown by {entry['presented_by']} at generation {entry['current_generation']}")
    if "reason" in entry:
        told.append(entry["reason"])
    if "cause" in entry:
        told.append(entry["cause"])
    if "jti" in entry:
        told.append(f"jti {entry['jti']}")
    return plain(" · ".join(told))


def plain(text: str, style: str = "") -> Text:
    """What clients chose may hold anything, terminal commands included."""
    return Text("".join(character if character.isprintable() else "\ufffd" for character in text), style)


def when(time: str | None) -> str:
    """To the millisecond, in UTC: what a person compares."""
    if time is None:
        return ""
    return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
