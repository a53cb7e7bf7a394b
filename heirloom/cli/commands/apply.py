"""`heirloom apply FILE.toml`: tenants and clients from a file, as often as one likes."""

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from events.bus.connection import Connection
from heirloom.cli.options import FILE, where
from heirloom.cli.service_connection import ORDER_TIMEOUT_SECONDS, RequestRefused, answer_to, open_bus
from heirloom.cli.tables import Row, print_rows
from heirloom.seed import Seed, read_seed, refused

RETRYING_SECONDS = 30
"""How long a temporarily refused setting is retried: a cluster's brokers elect a leader as they start."""
RETRY_SECONDS = 0.2
MAX_NAMED = 10
"""How many names a message lists."""


class ApplyHalted(click.ClickException):
    """The service refused one of the file's settings: those in `done` stay, those after it were not tried.

    Whether that one was applied, only its error can say: the acknowledgement may be lost.
    """

    def __init__(self, refusal: click.ClickException, done: list[dict[str, Any]], after: list[str]) -> None:
        before = _some([f"{put['what']} {put['name']}" for put in done])
        super().__init__(f"{refusal.message}\napplied before it: {before}\nnot applied after it: {_some(after)}")
        self.done = done


def _some(names: list[str]) -> str:
    if not names:
        return "nothing"
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f", and {more} more" if more > 0 else "")


@click.command()
@where
@click.argument("file", type=FILE)
@click.option("--show-secrets", is_flag=True, help="Make and print a secret for each new client that needs one.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for pipes.")
def apply(data: Path, nats: str | None, file: Path, show_secrets: bool, as_json: bool) -> None:
    """Set tenants and clients from FILE.

    Applying a file twice changes nothing, and says so.
    """
    seed = read_seed(file)

    async def run() -> list[dict[str, Any]]:
        async with open_bus(data, nats, "operator") as connection:
            return await apply_seed(connection, seed, secrets=show_secrets)

    try:
        done = asyncio.run(run())
    except ApplyHalted as halted:
        if halted.done:  # a secret in it is shown only once
            _show(halted.done, show_secrets, as_json)
        raise
    _show(done, show_secrets, as_json)


def _show(done: list[dict[str, Any]], secrets: bool, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
        return
    columns = "what", "name", "result", "seq", *(("client secret",) if secrets else ())
    print_rows(columns, [_row(put, secrets) for put in done])


def _row(put: dict[str, Any], show_secrets: bool) -> Row:
    result = "changed" if put["changed"] else "unchanged"
    return put["what"], put["name"], result, str(put["seq"]), *((put.get("client_secret", ""),) if show_secrets else ())


async def apply_seed(connection: Connection, seed: Seed, *, secrets: bool = False) -> list[dict[str, Any]]:
    """Put every tenant, then every client. Raises `ApplyHalted` with the service's error, and `click.ClickException`.

    Nothing is put when a client's tenant is neither in the file nor known to the service. A temporary refusal is
    retried, but not with `secrets`: a secret is shown only once, and the lost answer may have contained it.
    """
    patience = 0 if secrets else RETRYING_SECONDS
    faults = [
        f"line {line}: tenant: there is no tenant {tenant!r}, here or in the service"
        for tenant, line in seed.elsewhere
        if not await _exists(connection, tenant)
    ]
    if faults:
        raise refused(seed.file, faults)
    puts = [("tenant", name, f"admin.{name}.tenant.put", settings) for name, settings in seed.tenants]
    for tenant, client_id, settings in seed.clients:
        request = settings | {"client_id": client_id, "generate_secret": secrets}
        puts.append(("client", f"{tenant}/{client_id}", f"admin.{tenant}.client.put", request))
    done: list[dict[str, Any]] = []
    for what, name, subject, request in puts:
        try:
            reply = await _put(connection, subject, request, patience)
        except click.ClickException as refusal:
            raise ApplyHalted(
                refusal, done, [f"{what} {name}" for what, name, *_ in puts[len(done) + 1 :]]
            ) from refusal
        done.append({"what": what, "name": name} | reply)
    return done


async def _exists(connection: Connection, tenant: str) -> bool:
    try:
        await answer_to(connection, "operator", f"oauth.{tenant}.public.metadata", {}, ORDER_TIMEOUT_SECONDS)
    except RequestRefused as refusal:
        if refusal.is_for_now:
            raise
        return False
    return True


async def _put(connection: Connection, subject: str, request: dict[str, Any], patience: float) -> dict[str, Any]:
    now = asyncio.get_running_loop().time
    until = now() + patience
    while True:
        try:
            return await answer_to(connection, "operator", subject, request, ORDER_TIMEOUT_SECONDS)
        except RequestRefused as refusal:
            if not refusal.is_for_now or now() >= until:
                raise click.ClickException(f"{subject}: {refusal.message}") from refusal
        await asyncio.sleep(RETRY_SECONDS)
