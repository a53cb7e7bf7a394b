"""`heirloom apply FILE.toml`: tenants and clients from a file, all or nothing, as often as one likes."""

import asyncio
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from nats.errors import Error as NatsError
from rich.console import Console
from rich.table import Table

from events.bus import Connection
from events.settings import ClientSettings, TenantSettings
from events.subjects import CLIENT_ID, TENANT
from heirloom.commands.options import where
from heirloom.reach import open_bus
from service.admin.settings import parse
from service.errors import OAuthError

ANSWER_SECONDS = 45
"""A setting is effective everywhere before it is acknowledged, and that can take a while."""


class Seed(NamedTuple):
    """A file's content, checked: `(tenant, settings)` and `(tenant, client_id, settings)` in the file's order."""

    tenants: list[tuple[str, dict[str, Any]]]
    clients: list[tuple[str, str, dict[str, Any]]]


@click.command()
@where
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--show-secrets", is_flag=True, help="Make and print a secret for each new client that needs one.")
@click.option("--json", "as_json", is_flag=True, help="For pipes.")
def apply(data: Path, nats: str | None, file: Path, show_secrets: bool, as_json: bool) -> None:
    """Set tenants and clients from FILE. Applying a file twice changes nothing, and says so."""
    seed = read_seed(file)

    async def run() -> list[dict[str, Any]]:
        async with open_bus(data, nats, "operator") as connection:
            return await apply_seed(connection, seed, secrets=show_secrets)

    done = asyncio.run(run())
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
        return
    table = Table("what", "name", "result", "seq", *(["client_secret"] if show_secrets else []), box=None)
    for row in done:
        result = "changed" if row["changed"] else "unchanged"
        shown = [row.get("client_secret", "")] if show_secrets else []
        table.add_row(row["what"], row["name"], result, str(row["seq"]), *shown)
    Console().print(table)


def read_seed(file: Path) -> Seed:
    """The file's tenants and clients. Raises `click.ClickException` naming every fault; then nothing is applied."""
    try:
        text = file.read_text()
        content = tomllib.loads(text)
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file} is not TOML: {error}") from error
    reader = _SeedReader(text)
    seed = reader.read(content)
    if reader.faults:
        raise click.ClickException(f"{file} is refused; nothing was applied:\n  " + "\n  ".join(reader.faults))
    return seed


class _SeedReader:
    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self.faults: list[str] = []

    def read(self, content: dict[str, Any]) -> Seed:
        for name in content.keys() - {"tenant", "client"}:
            self._fault(self._line(None, 0, name), f"{name}: only [[tenant]] and [[client]] are known")
        tenants = [self._tenant(number, table) for number, table in self._tables(content, "tenant")]
        clients = [self._client(number, table) for number, table in self._tables(content, "client")]
        return Seed(tenants, clients)

    def _tables(self, content: dict[str, Any], kind: str) -> list[tuple[int, dict[str, Any]]]:
        tables = content.get(kind, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._fault(self._line(None, 0, kind), f"{kind} must be written as [[{kind}]]")
            return []
        return list(enumerate(tables))

    def _tenant(self, number: int, table: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        settings = dict(table)
        name = settings.pop("name", None)
        if not isinstance(name, str) or not TENANT.fullmatch(name):
            self._fault(self._line("tenant", number, "name"), "name: a tenant's name is [a-z0-9][a-z0-9-]{0,62}")
        self._check("tenant", number, TenantSettings, settings)
        return str(name), settings

    def _client(self, number: int, table: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        settings = dict(table)
        tenant, client_id = settings.pop("tenant", None), settings.pop("client_id", None)
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            self._fault(self._line("client", number, "tenant"), "tenant: names the tenant the client belongs to")
        if not isinstance(client_id, str) or not CLIENT_ID.fullmatch(client_id):
            self._fault(self._line("client", number, "client_id"), "client_id must be [A-Za-z0-9_-]{1,64}")
        self._check("client", number, ClientSettings, settings)
        return str(tenant), str(client_id), settings

    def _check(self, kind: str, number: int, shape: Any, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            try:
                parse(shape, {name: value})
            except OAuthError as error:
                self._fault(self._line(kind, number, name), error.description)

    def _fault(self, line: int, text: str) -> None:
        self.faults.append(f"line {line}: {text}")

    def _line(self, kind: str | None, number: int, name: str) -> int:
        """Where `name` is set in the `number`th [[kind]]; that table's first line when it is not."""
        seen, start = -1, 1
        for index, line in enumerate(self._lines, 1):
            stripped = line.strip()
            if stripped.startswith("["):
                seen += kind is not None and stripped.replace(" ", "").startswith(f"[[{kind}]]")
                if seen == number and start == 1:
                    start = index
            elif (kind is None or seen == number) and stripped.split("=")[0].strip().strip("\"'") == name:
                return index
        return start


async def apply_seed(connection: Connection, seed: Seed, *, secrets: bool = False) -> list[dict[str, Any]]:
    """Put every tenant, then every client. Raises `click.ClickException` with the service's own words."""
    done: list[dict[str, Any]] = []
    for name, settings in seed.tenants:
        reply = await _put(connection, f"admin.{name}.tenant.put", settings)
        done.append({"what": "tenant", "name": name} | reply)
    for tenant, client_id, settings in seed.clients:
        request = settings | {"client_id": client_id, "generate_secret": secrets}
        reply = await _put(connection, f"admin.{tenant}.client.put", request)
        done.append({"what": "client", "name": f"{tenant}/{client_id}"} | reply)
    return done


async def _put(connection: Connection, subject: str, request: dict[str, Any]) -> dict[str, Any]:
    try:
        reply = await connection.request(subject, msgspec.json.encode(request), timeout=ANSWER_SECONDS)
    except NatsError as error:
        raise click.ClickException(f"the service does not answer on {subject}") from error
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    if "error" in answer:
        raise click.ClickException(f"{subject}: {answer['error_description']}")
    return answer
