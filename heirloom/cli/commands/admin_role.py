"""`heirloom admin role …`: credentials of a role under a name of their own, for one tenant."""

from pathlib import Path
from typing import Any, get_args

import click

from events.aggregates.role import RoleKind
from heirloom.broker.run_file import host_of
from heirloom.cli.commands.admin_order import REASON, OrderTarget, order, send_order, show
from heirloom.cli.service_connection import running_service
from heirloom.cli.tables import print_json, print_rows


@click.group()
def role() -> None:
    """Credentials of a role, each under a name of its own, for one tenant."""


@role.command("add")
@order
@click.argument("kind", metavar="ROLE", type=click.Choice(get_args(RoleKind)))
@click.argument("name")
def role_add(kind: str, name: str, **options: Any) -> None:
    """Let NAME connect as ROLE: operator, auditor, edge or resource.

    It may do what that role may, for this tenant alone, and has an inbox of its own. Its secret is shown this once.
    """
    target = OrderTarget(**options)
    answer = send_order(target, "role.add", {"role": kind, "name": name})
    answer["url"] = _url(target.data, target.nats, f"{answer['user']}:{answer['secret']}")
    show(target, answer)
    if not target.as_json:
        click.echo("The secret is shown this once; only its digest is kept.", err=True)


@role.command("list")
@order
def role_list(**options: Any) -> None:
    """Show the names, live and revoked."""
    target = OrderTarget(**options)
    answer = send_order(target, "role.list", {})
    if target.as_json:
        print_json(answer)
        return
    columns = "name", "role", "status", "seq"
    print_rows(columns, [tuple(str(item[column]) for column in columns) for item in answer["items"]])


@role.command("revoke")
@order
@click.argument("name")
@REASON
def role_revoke(name: str, reason: str | None, **options: Any) -> None:
    """Let nobody connect as NAME any more; its connections end within a second."""
    target = OrderTarget(**options)
    show(target, send_order(target, "role.revoke", {"name": name, "reason": reason}))


def _url(data: Path, nats: str | None, who: str) -> str:
    """The URL of the first broker for these credentials, as `heirloom url` prints it."""
    first = (running_service(data).url if nats is None else nats).split(",")[0]
    return f"{first.partition('://')[0]}://{who}@{host_of(first)}"
