"""`heirloom audit family`, and lists of all families, revocations and incidents."""

import asyncio
from pathlib import Path
from typing import Any, get_args

import click

from events.aggregates.family_events import RevocationReason
from heirloom.cli.audit.audit_query import listed, query, query_once, send_query, show
from heirloom.cli.audit.csv_columns import COLUMNS
from heirloom.cli.audit.family_tree import print_picture
from heirloom.cli.service_connection import open_bus
from heirloom.cli.tables import Answer, print_families, print_family, print_incidents, print_revocations, print_text
from projections.tables.families import Status


@click.command()
@query
@click.argument("family_id", metavar="FAMILY_ID")
@click.option(
    "--picture", is_flag=True, help="Its generations as a tree: who held what when, where a theft branched off."
)
def family(data: Path, nats: str | None, tenant: str, form: str | None, family_id: str, picture: bool) -> None:
    """One family, and everything that happened to it."""
    answer = asyncio.run(_family(data, nats, tenant, family_id))
    show(answer, form, print_picture if picture else print_family)


@click.command()
@listed
@click.option("--status", type=click.Choice(get_args(Status)), help="As it is now.")
def families(data: Path, nats: str | None, tenant: str, form: str | None, **filters: Any) -> None:
    """The families that began then, newest first."""
    answer = query_once(data, nats, f"audit.{tenant}.families", filters)
    show(answer, form, print_families, COLUMNS["families"])


@click.command()
@listed
@click.option("--reason", type=click.Choice(get_args(RevocationReason)), metavar="REASON", help="For this reason.")
def revocations(data: Path, nats: str | None, tenant: str, form: str | None, **filters: Any) -> None:
    """What was revoked, when, why and by whom, newest first."""
    answer = query_once(data, nats, f"audit.{tenant}.revocations", filters)
    show(answer, form, print_revocations, COLUMNS["revocations"])


@click.command()
@listed
@click.option(
    "--reason", type=click.Choice(["reuse_detected", "code_reuse", "forgery", "late_duplicate"]), help="Of this kind."
)
def incidents(data: Path, nats: str | None, tenant: str, form: str | None, **filters: Any) -> None:
    """Stolen, forged and late tokens that were shown, newest first."""
    answer = query_once(data, nats, f"audit.{tenant}.incidents", filters)
    show(answer, form, print_incidents, COLUMNS["incidents"])


@click.command()
@query
def position(data: Path, nats: str | None, tenant: str, form: str | None) -> None:
    """How far the read model is behind the log."""
    answer = query_once(data, nats, f"audit.{tenant}.position", {})
    show(answer, form, _print_position)


def _print_position(answer: Answer) -> None:
    obstacle = f"; it goes no further: {answer['obstacle']}" if "obstacle" in answer else ""
    print_text(f"applied {answer['applied_seq']} of {answer['log_seq']}, {answer['lag']} behind{obstacle}")


async def _family(data: Path, nats: str | None, tenant: str, family_id: str) -> Answer:
    """The family with its whole timeline, page by page."""
    async with open_bus(data, nats, "auditor") as connection:
        subject, request = f"audit.{tenant}.family", {"family_id": family_id}
        answer = await send_query(connection, subject, request)
        while answer["cursor"] is not None:
            more = await send_query(connection, subject, request | {"cursor": answer["cursor"]})
            answer = more | {"timeline": answer["timeline"] + more["timeline"]}
        return answer
