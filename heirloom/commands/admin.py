"""`heirloom admin …`: an operator's commands (CONTRACT §5). Each comes back when its effect is complete everywhere."""

import asyncio
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from rich.console import Console
from rich.table import Table

from heirloom.commands.options import FILE, THE_TENANT, where
from heirloom.commands.tables import plain, print_json
from heirloom.reach import answer_to, open_bus

ANSWER_SECONDS = 45
"""The service itself gives up waiting for its effect a little earlier, and says so."""

F = TypeVar("F", bound=Callable[..., Any])

LABELS = {"seq": "sequence", "revoked_families": "families revoked", "kid": "key"}


class Place(NamedTuple):
    """Where an order goes, and how its answer is shown."""

    data: Path
    nats: str | None
    tenant: str
    as_json: bool


@click.group()
def admin() -> None:
    """Change settings, block, revoke, rotate keys.

    Every command returns when its effect is complete on every replica.
    """


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


def _order(command: F) -> F:
    """The options of every command."""
    return where(THE_TENANT(click.option("--json", "as_json", is_flag=True, help="As JSON, for pipes.")(command)))


REASON = click.option("--reason", metavar="TEXT", help="In your own words; kept in the log.")


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
@_order
@_settings
def tenant_put(given: tuple[str, ...], file: Path | None, **place: Any) -> None:
    """Replace the tenant's settings, as a whole."""
    _ask(Place(**place), "tenant.put", _read_settings(given, file))


@client.command("put")
@_order
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
    _ask(Place(**place), "client.put", _read_settings(given, file) | flags | {"client_id": client_id})


@client.command("disable")
@_order
@click.argument("client_id")
@REASON
def client_disable(client_id: str, reason: str | None, **place: Any) -> None:
    """Refuse CLIENT_ID everything, and end all its families."""
    _ask(Place(**place), "client.disable", {"client_id": client_id, "reason": reason})


@client.command("enable")
@_order
@click.argument("client_id")
@REASON
def client_enable(client_id: str, reason: str | None, **place: Any) -> None:
    """Let CLIENT_ID ask again; what ended stays ended."""
    _ask(Place(**place), "client.enable", {"client_id": client_id, "reason": reason})


@subject.command("block")
@_order
@click.argument("sub")
@REASON
def subject_block(sub: str, reason: str | None, **place: Any) -> None:
    """Issue nothing for SUB any more, and end all families."""
    _ask(Place(**place), "subject.block", {"sub": sub, "reason": reason})


@subject.command("unblock")
@_order
@click.argument("sub")
@REASON
def subject_unblock(sub: str, reason: str | None, **place: Any) -> None:
    """Let new families begin for SUB; what ended stays ended."""
    _ask(Place(**place), "subject.unblock", {"sub": sub, "reason": reason})


@subject.command("revoke")
@_order
@click.argument("sub")
@REASON
def subject_revoke(sub: str, reason: str | None, **place: Any) -> None:
    """End all families of SUB; new ones may begin."""
    _ask(Place(**place), "subject.revoke", {"sub": sub, "reason": reason})


@consent.command("revoke")
@_order
@click.argument("sub")
@click.argument("client_id")
@REASON
def consent_revoke(sub: str, client_id: str, reason: str | None, **place: Any) -> None:
    """End what CLIENT_ID has of SUB."""
    _ask(Place(**place), "consent.revoke", {"sub": sub, "client_id": client_id, "reason": reason})


@family.command("revoke")
@_order
@click.argument("family_id", metavar="FAMILY_ID")
@REASON
def family_revoke(family_id: str, reason: str | None, **place: Any) -> None:
    """End one family."""
    _ask(Place(**place), "family.revoke", {"family_id": family_id, "reason": reason})


@key.command("rotate")
@_order
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
    _ask(Place(**place), "key.rotate", {"use": use})


def _read_settings(given: tuple[str, ...], file: Path | None) -> dict[str, Any]:
    """The file's settings, and those given one by one over them. There is one at least: the others are reset."""
    if file is None and not given:
        raise click.UsageError("all settings are replaced: name those that are not the default by --set or --file")
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            settings = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise click.ClickException(f"cannot read {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise click.ClickException(f"{file} is not TOML: {error}") from error
    for setting in given:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--set takes NAME=VALUE, not {setting!r}")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def _ask(place: Place, what: str, request: dict[str, Any]) -> None:
    """Send the order and show the answer. Raises `click.ClickException` with the service's own words."""
    given = {name: value for name, value in request.items() if value is not None}
    subject = f"admin.{place.tenant}.{what}"

    async def run() -> dict[str, Any]:
        async with open_bus(place.data, place.nats, "operator") as connection:
            return await answer_to(connection, "operator", subject, given, ANSWER_SECONDS)

    answer = asyncio.run(run())
    if place.as_json:
        print_json(answer)
    else:
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    if "changed" in answer:
        answer = {"result": "changed" if answer.pop("changed") else "unchanged"} | answer
    for name, value in answer.items():
        table.add_row(LABELS.get(name, name), plain(str(value)))
    Console(highlight=False).print(table)
    if "client_secret" in answer:
        click.echo("The secret is shown this once; only its hash is kept.", err=True)
