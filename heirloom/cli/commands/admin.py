"""`heirloom admin …`: an operator's commands (CONTRACT §5). Each comes back when its effect is complete everywhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from events.visible_text import unknown_name
from heirloom.cli.commands.admin_order import REASON, OrderTarget, ask, order, show
from heirloom.cli.commands.admin_role import role
from heirloom.cli.options import FILE
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


def _settings(command: F) -> F:
    """The options of what is put."""
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
def tenant_put(given: tuple[str, ...], file: Path | None, **place: Any) -> None:
    """Replace the tenant's settings, as a whole."""
    _ask(OrderTarget(**place), "tenant.put", _read_settings(given, file))


@client.command("put")
@order
@_settings
@click.argument("client_id")
@click.option("--no-secret", is_flag=True, help="Make no secret, even if the client needs one.")
@click.option("--rotate-secret", is_flag=True, help="Make a new secret; the old one is void.")
def client_put(
    client_id: str, given: tuple[str, ...], file: Path | None, no_secret: bool, rotate_secret: bool, **place: Any
) -> None:
    """Register CLIENT_ID, or replace its registration as a whole. A new secret is shown this once."""
    flags: dict[str, Any] = {"generate_secret": False} if no_secret else {}
    flags |= {"rotate_secret": True} if rotate_secret else {}
    _ask(OrderTarget(**place), "client.put", _read_settings(given, file) | flags | {"client_id": client_id})


@client.command("disable")
@order
@click.argument("client_id")
@REASON
def client_disable(client_id: str, reason: str | None, **place: Any) -> None:
    """Refuse CLIENT_ID everything, and end all its families."""
    _ask(OrderTarget(**place), "client.disable", {"client_id": client_id, "reason": reason})


@client.command("enable")
@order
@click.argument("client_id")
@REASON
def client_enable(client_id: str, reason: str | None, **place: Any) -> None:
    """Let CLIENT_ID ask again; what ended stays ended."""
    _ask(OrderTarget(**place), "client.enable", {"client_id": client_id, "reason": reason})


@subject.command("block")
@order
@click.argument("sub")
@REASON
def subject_block(sub: str, reason: str | None, **place: Any) -> None:
    """Issue nothing for SUB any more, and end all families."""
    _ask(OrderTarget(**place), "subject.block", {"sub": sub, "reason": reason})


@subject.command("unblock")
@order
@click.argument("sub")
@REASON
def subject_unblock(sub: str, reason: str | None, **place: Any) -> None:
    """Let new families begin for SUB; what ended stays ended."""
    _ask(OrderTarget(**place), "subject.unblock", {"sub": sub, "reason": reason})


@subject.command("revoke")
@order
@click.argument("sub")
@REASON
def subject_revoke(sub: str, reason: str | None, **place: Any) -> None:
    """End all families of SUB; new ones may begin."""
    _ask(OrderTarget(**place), "subject.revoke", {"sub": sub, "reason": reason})


@consent.command("revoke")
@order
@click.argument("sub")
@click.argument("client_id")
@REASON
def consent_revoke(sub: str, client_id: str, reason: str | None, **place: Any) -> None:
    """End what CLIENT_ID has of SUB."""
    _ask(OrderTarget(**place), "consent.revoke", {"sub": sub, "client_id": client_id, "reason": reason})


@family.command("revoke")
@order
@click.argument("family_id", metavar="FAMILY_ID")
@REASON
def family_revoke(family_id: str, reason: str | None, **place: Any) -> None:
    """End one family."""
    _ask(OrderTarget(**place), "family.revoke", {"family_id": family_id, "reason": reason})


@key.command("rotate")
@order
@click.option(
    "--use",
    type=click.Choice(["sig", "mac"]),
    default="sig",
    show_default=True,
    help="The key that signs, or the one refresh tokens and codes are computed under.",
)
def key_rotate(use: str, **place: Any) -> None:
    """Use a new key.

    What was made under the old one stays valid until it expires.
    """
    _ask(OrderTarget(**place), "key.rotate", {"use": use})


def _read_settings(given: tuple[str, ...], file: Path | None) -> dict[str, Any]:
    """The file's settings, and those given one by one over them. There is one at least: the others are reset."""
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


def _ask(place: OrderTarget, what: str, request: dict[str, Any]) -> None:
    """Send the order and show the answer. Raises as `ask`."""
    show(place, ask(place, what, request))
