"""`heirloom audit what-if`: real history under another policy."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from events.worker.parent import ChildGone
from heirloom.cli.audit.audit_query import query, show
from heirloom.cli.log_connection import reading
from heirloom.cli.progress_bar import progress
from heirloom.cli.tables import Answer, Row, plain, print_facts, print_page, print_text, when
from heirloom.cli.time_param import MomentParam
from heirloom.moment import Moment, is_inverted
from heirloom.what_if.findings import Findings, Scenario, changes_of
from heirloom.what_if.query import CannotTell, find_out
from projections.queries.requests import UnknownTenant
from service.errors import OAuthError

SECONDS = click.IntRange(0)


@click.command("what-if")
@query
@click.option("--grace", "refresh_token_grace", type=SECONDS, help="refresh_token_grace, in seconds.")
@click.option(
    "--rotation", "refresh_token_rotation", type=click.Choice(["rotate", "reuse"]), help="refresh_token_rotation."
)
@click.option("--refresh-token-ttl", type=SECONDS, help="refresh_token_ttl, in seconds.")
@click.option("--refresh-token-idle-ttl", type=SECONDS, help="refresh_token_idle_ttl, in seconds; 0 for none.")
@click.option("--require-offline-access/--no-require-offline-access", default=None, help="require_offline_access.")
@click.option("--required-acr", metavar="ACR", multiple=True, help="Weakest first; may be repeated.")
@click.option("--no-required-acr", is_flag=True, help="As if none had been required.")
@click.option("--scope-narrowing", type=click.Choice(["request", "sticky"]), help="scope_narrowing.")
@click.option("--client", "client_id", metavar="CLIENT_ID", help="Of this client's families alone.")
@click.option("--since", type=MomentParam(past=True), help="Families that began at that sequence or time, or later.")
@click.option(
    "--until", type=MomentParam(end_of_day=True), help="History up to that sequence or time, or the end of that day."
)
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Families named.")
def what_if(  # noqa: PLR0913  # a command's options are its parameters
    data: Path,
    nats: str | None,
    tenant: str,
    form: str | None,
    client_id: str | None,
    since: Moment | None,
    until: Moment | None,
    limit: int,
    **policy: Any,
) -> None:
    """Who would have lived or died under another policy.

    Decides every recorded presentation again, by the very functions that decided it, with these settings in the place
    of those that held. What is not named stays as it was.
    """
    changes = _changes(**policy)
    if is_inverted(since, until):
        raise click.UsageError("--since is after --until")
    now = datetime.now(UTC)
    now = min(until, now) if isinstance(until, datetime) else now
    scenario = Scenario(tenant, changes, now, client_id=client_id, since=since, until=until, limit=limit)

    async def run() -> Findings:
        async with reading(data, nats) as (connection, end):
            last = min(end, until) if isinstance(until, int) else end
            with progress("deciding again", last) as advance:
                return await find_out(connection, scenario, advance)

    try:
        findings = asyncio.run(run())
    except (CannotTell, ChildGone, UnknownTenant) as error:
        raise click.ClickException(str(error)) from error
    show(msgspec.to_builtins(findings), form, _print)


def _changes(required_acr: tuple[str, ...], no_required_acr: bool, **others: Any) -> dict[str, Any]:
    changes = {name: value for name, value in others.items() if value is not None}
    if required_acr and no_required_acr:
        raise click.UsageError("name an acr or none")
    if required_acr or no_required_acr:
        changes["required_acr"] = required_acr or None
    try:
        return changes_of(changes)
    except OAuthError as error:
        raise click.UsageError(error.description) from error


def _print(answer: Answer) -> None:
    named = len(answer["items"])
    print_facts(
        {
            "policy": ", ".join(f"{name} = {_value(value)}" for name, value in answer["policy"].items()),
            "as of": when(answer["as_of"]),
            "families": f"{answer['families']:,} that had a refresh token",
            "the same": f"{answer['same']:,}",
            "would have lived": _counted(answer["would_have_lived"], answer["lived_past"]),
            "would have died": _counted(answer["would_have_died"], answer["died_of"]),
            "ended otherwise": _counted(answer["would_have_ended_otherwise"], answer["ended_otherwise_of"]),
            "retries spared": f"{answer['retries_spared']:,}",
            "thefts let through": plain(f"{answer['thefts_let_through']:,}", "red" if _is_leaky(answer) else ""),
        }
    )
    for caveat in answer["caveats"]:
        print_text(f"note: {caveat}")
    if named:
        click.echo()
        columns = "seq", "when", "family", "client", "subject", "gen", "what", "in fact", "instead"
        print_page({"items": answer["items"], "cursor": None}, columns, _row)
    concerned = answer["families"] - answer["same"]
    if concerned > named:
        click.echo(f"{concerned - named:,} more: --limit {concerned}")


def _is_leaky(answer: Answer) -> bool:
    return bool(answer["thefts_let_through"])


def _value(value: Any) -> str:
    return "the default" if value is None else " ".join(value) if isinstance(value, list | tuple) else str(value)


def _counted(total: int, reasons: dict[str, int]) -> str:
    listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    return f"{total:,} ({listed})" if listed else f"{total:,}"


def _row(item: Answer) -> Row:
    """How it was decided, in fact and instead; where only the time decides, how both ended."""
    fact, instead = (item["in_fact"], item["instead"]) if item["seq"] is None else (item["was"], item["would_be"])
    what = item["outcome"].removeprefix("would_have_").replace("_", " ")
    style = {"lived": "green", "died": "red"}.get(what, "")
    numbers = ("" if item[name] is None else str(item[name]) for name in ("seq", "generation"))
    seq, generation = numbers
    who = plain(item["family_id"]), plain(item["client_id"]), plain(item["sub"])
    return seq, when(item["at"]), *who, generation, plain(what, style), plain(fact), plain(instead)
