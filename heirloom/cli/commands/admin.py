"""`heirloom admin …`: an operator's commands (contract §5). Each returns when its effect is complete everywhere."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from events.aggregates.aggregate_names import NO_TENANT
from events.visible_text import unknown_name
from heirloom.cli.commands.admin_order import REASON, OrderTarget, order, send_order, show
from heirloom.cli.commands.admin_role import role
from heirloom.cli.options import FILE, where
from heirloom.cli.tables import print_text
from heirloom.seed import read_toml

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def admin() -> None:
    """Change settings, block, revoke, rotate keys.

    Every command returns when its effect is complete on every replica.
    """


admin.add_command(role)


@admin.group("tenant")
def tenant_group() -> None:
    """A tenant's settings."""


@admin.group()
def client() -> None:
    """A client's registration, and whether it may ask at all."""


@admin.group()
def subject() -> None:
    """A person: block, unblock, revoke everything."""


@admin.group()
def consent() -> None:
    """What a person granted to one client."""


@admin.group()
def family() -> None:
    """One token family."""


@admin.group()
def key() -> None:
    """The tenant's signing keys."""


@admin.group("log")
def log_group() -> None:
    """The log of all tenants."""


@log_group.command("close")
@where
@click.option("--json", "as_json", is_flag=True, help="As JSON, for pipes.")
def log_close(data: Path, nats: str | None, as_json: bool) -> None:
    """Close the log's book: what it holds never changes again, and the next book takes the commits from then on."""
    _ask(OrderTarget(data, nats, NO_TENANT, as_json), "log.close", {})


class _Order(NamedTuple):
    """A command that only names its object, and a reason: `operation` is also the name of its group and its own."""

    operation: str
    arguments: tuple[str, ...]
    help: str


_ORDERS = (
    _Order("client.disable", ("client_id",), "Refuse CLIENT_ID everything, and end all its families."),
    _Order("client.enable", ("client_id",), "Let CLIENT_ID ask again; what ended stays ended."),
    _Order("subject.block", ("sub",), "Issue nothing for SUB any more, and end all families."),
    _Order("subject.unblock", ("sub",), "Let new families begin for SUB; what ended stays ended."),
    _Order("subject.revoke", ("sub",), "End all families of SUB; new ones may begin."),
    _Order("consent.revoke", ("sub", "client_id"), "End what CLIENT_ID has of SUB."),
    _Order("family.revoke", ("family_id",), "End one family."),
)


_ENDING = ("client.disable", "subject.block", "subject.revoke", "consent.revoke")


def _add_order(the_order: _Order) -> None:
    """Add the order's command to its group."""
    group, _, name = the_order.operation.partition(".")

    def send(data: Path, nats: str | None, tenant: str, as_json: bool, **request: str | None) -> None:
        target = OrderTarget(data, nats, tenant, as_json)
        answer = send_order(target, the_order.operation, request)
        show(target, answer)
        if the_order.operation in _ENDING and not answer["revoked_families"]:
            named = " and ".join(request[argument] or "" for argument in the_order.arguments)
            print_text(f"Nothing of {named} was alive. If you expected otherwise, look at the name.", err=True)

    command = REASON(send)
    for argument in reversed(the_order.arguments):
        command = click.argument(argument)(command)
    _GROUPS[group].command(name, help=the_order.help)(order(command))


_GROUPS = {"client": client, "subject": subject, "consent": consent, "family": family}

for _each in _ORDERS:
    _add_order(_each)


def _settings(command: F) -> F:
    """Add the options that name settings."""
    given = click.option(
        "--set",
        "given",
        multiple=True,
        metavar="NAME=VALUE",
        help="A setting; VALUE is JSON or else a string. May be repeated.",
    )
    file = click.option("--file", type=FILE, help="Settings as TOML.")
    return file(given(command))


@tenant_group.command("put")
@order
@_settings
def tenant_put(given: tuple[str, ...], file: Path | None, **target: Any) -> None:
    """Replace the tenant's settings, as a whole."""
    _ask(OrderTarget(**target), "tenant.put", _read_settings(given, file))


@client.command("put")
@order
@_settings
@click.argument("client_id")
@click.option("--no-secret", is_flag=True, help="Make no secret, even if the client needs one.")
@click.option("--rotate-secret", is_flag=True, help="Make a new secret; the old one is void.")
def client_put(
    client_id: str, given: tuple[str, ...], file: Path | None, no_secret: bool, rotate_secret: bool, **target: Any
) -> None:
    """Register CLIENT_ID, or replace its registration as a whole. A new secret is shown this once."""
    flags: dict[str, Any] = {"generate_secret": False} if no_secret else {}
    flags |= {"rotate_secret": True} if rotate_secret else {}
    _ask(OrderTarget(**target), "client.put", _read_settings(given, file) | flags | {"client_id": client_id})


@key.command("rotate")
@order
@click.option(
    "--use",
    type=click.Choice(["sig", "mac"]),
    default="sig",
    show_default=True,
    help="The key that signs, or the one refresh tokens and codes are computed under.",
)
def key_rotate(use: str, **target: Any) -> None:
    """Use a new key.

    What was made under the old one stays valid until it expires.
    """
    _ask(OrderTarget(**target), "key.rotate", {"use": use})


def _read_settings(given: tuple[str, ...], file: Path | None) -> dict[str, Any]:
    """The file's settings, overridden by those given one by one. At least one is required: all others are reset."""
    settings = read_toml(file)[1] if file is not None else {}
    for setting in given:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--set takes NAME=VALUE, not {unknown_name(setting)}")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"--set {name}: a number that is too long, or a value that is too deep") from error
    if not settings:
        raise click.UsageError("all settings are replaced: name those that are not the default by --set or --file")
    return settings


def _ask(target: OrderTarget, operation: str, request: Mapping[str, Any]) -> None:
    """Send the order and show its answer. Raises `click.ClickException`."""
    show(target, send_order(target, operation, request))
