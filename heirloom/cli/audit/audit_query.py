"""Sending audit queries: the options that all have, the request, and the answer in the requested format."""

import asyncio
import csv
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from events.bus.connection import Connection
from heirloom.cli.options import THE_TENANT, where
from heirloom.cli.service_connection import answer_to, open_bus
from heirloom.cli.tables import Answer, print_json
from heirloom.cli.time_param import TimeParam
from heirloom.export.csv_cell import cell
from heirloom.time_text import FORMS

QUERY_TIMEOUT_SECONDS = 10

F = TypeVar("F", bound=Callable[..., Any])

LIMIT = click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Items on a page.")
CURSOR = click.option("--cursor", metavar="CURSOR", help="Go on where a page ended: with all that it names as more.")
SINCE = click.option("--since", type=TimeParam(past=True), help=f"A day, a time, or how long ago: {FORMS}.")
UNTIL = click.option("--until", type=TimeParam(end_of_day=True), help="The same; both are included, a day as a whole.")


def query(command: F) -> F:
    """Add the options of every query."""
    options = (
        THE_TENANT,
        click.option("--json", "form", flag_value="json", help="As JSON, for pipes."),
        click.option("--csv", "form", flag_value="csv", help="As CSV, for spreadsheets."),
    )
    return where(_with(command, *options))


def paged(command: F) -> F:
    """Add the options of every query that is answered in pages."""
    return query(_with(command, LIMIT, CURSOR))


def listed(command: F) -> F:
    """Add the options of every list, filters included."""
    options = (
        click.option("--sub", metavar="SUB", help="Of this person."),
        click.option("--client", "client_id", metavar="CLIENT_ID", help="Of this client."),
    )
    return paged(_with(command, *options, SINCE, UNTIL))


def _with(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def query_once(data: Path, nats: str | None, subject: str, parameters: dict[str, Any]) -> Answer:
    """The answer, over a connection of its own. Raises `click.ClickException`."""

    async def run() -> Answer:
        async with open_bus(data, nats, "auditor") as connection:
            return await query_in_full(connection, subject, parameters)

    return asyncio.run(run())


async def query_in_full(connection: Connection, subject: str, parameters: dict[str, Any]) -> Answer:
    """The answer; a list with as many items as requested, if there are so many. Raises `click.ClickException`.

    An answer goes through a part of the rows only, so it may have few items of a rare kind, or none. A cursor belongs
    to one query, and `6h` is another time at every call: `asked` returns the times that belong to the cursor.
    """
    answer = await send_query(connection, subject, parameters)
    wanted = parameters.get("limit")
    while wanted is not None and answer.get("cursor") is not None and len(answer["items"]) < wanted:
        rest = {"limit": wanted - len(answer["items"]), "cursor": answer["cursor"]}
        more = await send_query(connection, subject, parameters | rest)
        answer |= {"items": answer["items"] + more["items"], "cursor": more["cursor"]}
    times = {name: value.astimezone(UTC) for name, value in parameters.items() if isinstance(value, datetime)}
    return answer if not times or answer.get("cursor") is None else answer | {"asked": msgspec.to_builtins(times)}


async def send_query(connection: Connection, subject: str, parameters: dict[str, Any]) -> Answer:
    """The answer to an audit query. Raises `click.ClickException` with the service's error."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return await answer_to(connection, "auditor", subject, given, QUERY_TIMEOUT_SECONDS)


def show(answer: Answer, form: str | None, for_people: Callable[[Answer], None], columns: tuple[str, ...] = ()) -> None:
    """Print as JSON, as CSV, or by `for_people`; `columns` are those of a list as CSV, with or without items."""
    if form == "json":
        print_json(answer)
    elif form == "csv":
        _print_csv(answer, columns)
    else:
        for_people(answer)


def _print_csv(answer: Answer, columns: tuple[str, ...]) -> None:
    """Print a line for each item, or for each entry of a timeline.

    An answer without either is one line, and so is one without items whose columns are unknown.
    """
    items: list[Answer] = next((answer[name] for name in ("items", "timeline") if name in answer), [answer])
    if not items and not columns:
        items = [{name: value for name, value in answer.items() if name != "items"}]
    lines = csv.DictWriter(sys.stdout, list(dict.fromkeys([*columns, *(column for item in items for column in item)])))
    lines.writeheader()
    lines.writerows({column: cell(value) for column, value in item.items()} for item in items)
