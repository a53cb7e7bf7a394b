"""`heirloom audit …`: what happened, for people and for pipes (CONTRACT §5, §7)."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from events.bus import Connection
from events.log import Stored
from events.subjects import EVERYTHING, FAMILY_ID
from heirloom.commands.asking import ask, ask_once, listed, query, show
from heirloom.commands.notary import COMMANDS
from heirloom.commands.options import where
from heirloom.commands.picture import print_picture
from heirloom.commands.questions import QUESTIONS
from heirloom.commands.reading import progress, reading
from heirloom.commands.tables import (
    Answer,
    print_families,
    print_family,
    print_incidents,
    print_revocations,
)
from heirloom.commands.verify import verify
from heirloom.commands.when import Until
from heirloom.reach import open_bus
from projections.feed import Extent, feed
from projections.read_model import ReadModel, Unusable


@click.group()
def audit() -> None:
    """Ask what happened, check that the log is whole, and see any moment of the past again."""


for command in (*COMMANDS, *QUESTIONS, verify):
    audit.add_command(command)


@audit.command()
@query
@click.argument("family_id", metavar="ID")
@click.option(
    "--picture", is_flag=True, help="Its generations as a tree: who held what when, where a theft branched off."
)
def family(data: Path, nats: str | None, tenant: str, form: str | None, family_id: str, picture: bool) -> None:
    """One family, and everything that happened to it."""
    answer = asyncio.run(_family(data, nats, tenant, family_id))
    show(answer, form, print_picture if picture else print_family)


@audit.command()
@listed
@click.option("--status", type=click.Choice(["live", "revoked", "expired"]))
def families(data: Path, nats: str | None, tenant: str, form: str | None, **filters: Any) -> None:
    """The families that began in that time, newest first."""
    answer = ask_once(data, nats, f"audit.{tenant}.families", filters)
    show(answer, form, print_families)


@audit.command()
@listed
@click.option("--reason", help="For this reason.")
def revocations(data: Path, nats: str | None, tenant: str, form: str | None, **filters: Any) -> None:
    """What was revoked, when, why and by whom, newest first."""
    answer = ask_once(data, nats, f"audit.{tenant}.revocations", filters)
    show(answer, form, print_revocations)


@audit.command()
@listed
@click.option("--reason", help="reuse_detected or forgery.")
def incidents(data: Path, nats: str | None, tenant: str, form: str | None, **filters: Any) -> None:
    """Stolen tokens that were shown, and forged ones, newest first."""
    answer = ask_once(data, nats, f"audit.{tenant}.incidents", filters)
    show(answer, form, print_incidents)


@audit.command()
@query
def position(data: Path, nats: str | None, tenant: str, form: str | None) -> None:
    """How far the read model is behind the log."""
    answer = ask_once(data, nats, f"audit.{tenant}.position", {})
    show(answer, form, _print_position)


def _print_position(answer: Answer) -> None:
    obstacle = f"; it goes no further: {answer['obstacle']}" if "obstacle" in answer else ""
    click.echo(f"applied {answer['applied_seq']} of {answer['log_seq']}, {answer['lag']} behind{obstacle}")


@audit.command()
@where
@click.option("--until", "end", type=Until(), help="As of this sequence or time; otherwise as of now.")
@click.option("--family", "family_id", metavar="ID", help="Of this family alone.")
@click.option("--into", type=click.Path(dir_okay=False, path_type=Path), default=Path("replay.db"), show_default=True)
def replay(data: Path, nats: str | None, end: int | datetime | None, family_id: str | None, into: Path) -> None:
    """Rebuild the read model as of then, into a new SQLite file."""
    if into.exists():
        raise click.ClickException(f"{into} exists already; name another file with --into")
    if family_id is not None and not FAMILY_ID.fullmatch(family_id):
        raise click.ClickException(f"{family_id!r} is no family's id")
    filters = (EVERYTHING,) if family_id is None else (f"tokens.*.family.{family_id}.*",)

    async def run() -> int:
        async with reading(data, nats) as (connection, last):
            until = min(last, end) if isinstance(end, int) else last
            wanted = _not_after(end) if isinstance(end, datetime) else None
            with progress("replaying", until) as advance:
                return await replay_log(connection, into, Extent(1, until, filters, wanted), advance)

    applied = asyncio.run(run())
    if applied == 0:
        into.unlink(missing_ok=True)
        raise click.ClickException("there is nothing to replay: the log holds no such commit")
    click.echo(f"{into} is the read model as of sequence {applied}")


async def replay_log(connection: Connection, into: Path, extent: Extent, advance: Callable[[int], None]) -> int:
    """Build a read model of that much of the log; the sequence it ends at, 0 if there was nothing.

    Raises `click.ClickException` at a commit it cannot take in.
    """
    applied = 0

    def advanced(to: int) -> None:
        nonlocal applied
        applied = to
        advance(to)

    try:
        ReadModel(into).close()
    except Unusable as unusable:
        raise click.ClickException(f"{into}: {unusable}") from unusable
    outcome = await feed(connection, into, extent, advanced) if extent.until else None
    if outcome is not None:
        raise click.ClickException(outcome.halted or outcome.unwritable or outcome.damaged or "")
    return applied


def _not_after(time: datetime) -> Callable[[Stored], bool]:
    decode = msgspec.json.Decoder(_At).decode

    def wanted(stored: Stored) -> bool:
        try:
            return decode(stored.body).at <= time
        except (msgspec.DecodeError, UnicodeDecodeError):
            return True  # whoever must understand it will say what is wrong

    return wanted


class _At(msgspec.Struct):
    at: datetime


async def _family(data: Path, nats: str | None, tenant: str, family_id: str) -> Answer:
    """The family with its whole timeline, however many pages that takes."""
    async with open_bus(data, nats, "auditor") as connection:
        subject, request = f"audit.{tenant}.family", {"family_id": family_id}
        answer = await ask(connection, subject, request)
        while answer["cursor"] is not None:
            more = await ask(connection, subject, request | {"cursor": answer["cursor"]})
            answer = more | {"timeline": answer["timeline"] + more["timeline"]}
        return answer
