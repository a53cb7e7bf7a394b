"""The parts that all operator commands share: where an order goes, and how its answer is shown."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from heirloom.cli.options import THE_TENANT, where
from heirloom.cli.service_connection import ORDER_TIMEOUT_SECONDS, answer_to, open_bus
from heirloom.cli.tables import print_facts, print_json

F = TypeVar("F", bound=Callable[..., Any])

LABELS = {"seq": "sequence", "revoked_families": "families revoked", "kid": "key", "inbox_prefix": "inbox prefix"}


class OrderTarget(NamedTuple):
    """Where an order goes, and how its answer is shown."""

    data: Path
    nats: str | None
    tenant: str
    as_json: bool


def order(command: F) -> F:
    """Add the options that every command has."""
    return where(THE_TENANT(click.option("--json", "as_json", is_flag=True, help="As JSON, for pipes.")(command)))


REASON = click.option("--reason", metavar="TEXT", help="In your own words; kept in the log.")


def send_order(target: OrderTarget, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send an order, without what is None, and return its answer. Raises `click.ClickException` with its error."""
    given = {name: value for name, value in request.items() if value is not None}
    subject = f"admin.{target.tenant}.{operation}"

    async def run() -> dict[str, Any]:
        async with open_bus(target.data, target.nats, "operator") as connection:
            return await answer_to(connection, "operator", subject, given, ORDER_TIMEOUT_SECONDS)

    return asyncio.run(run())


def show(target: OrderTarget, answer: dict[str, Any]) -> None:
    """Print the answer's fields, as JSON or a line each."""
    if target.as_json:
        print_json(answer)
        return
    if "changed" in answer:
        answer = {"result": "changed" if answer.pop("changed") else "unchanged"} | answer
    print_facts({LABELS.get(name, name): value for name, value in answer.items()})
    if "client_secret" in answer:
        click.echo("The secret is shown this once; only its hash is kept.", err=True)
