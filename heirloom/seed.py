"""A seed file: tenants and clients as people write them, validated as a whole (contract §7)."""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import click

from events.aggregates.aggregate_names import CLIENT_ID, TENANT
from events.aggregates.settings import ClientSettings, TenantSettings
from events.visible_text import unknown_name
from service.errors import OAuthError
from service.registry.parse_settings import for_client, for_tenant, parse


class Seed(NamedTuple):
    """A file's content: `(tenant, settings)` and `(tenant, client_id, settings)`, in the file's order.

    `elsewhere` maps tenants that clients belong to, and that the file does not define, to their lines.
    """

    tenants: list[tuple[str, dict[str, Any]]]
    clients: list[tuple[str, str, dict[str, Any]]]
    elsewhere: tuple[tuple[str, int], ...] = ()
    file: str = "the seed"


def refused(file: str, faults: list[str]) -> click.ClickException:
    """One error for all faults of a file."""
    return click.ClickException(f"{file} is refused; nothing was applied:\n  " + "\n  ".join(faults))


def read_toml(file: Path) -> tuple[str, dict[str, Any]]:
    """A file's text and its content. Raises `click.ClickException`."""
    try:
        text = file.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.ClickException(f"{file} is not TOML: {error}") from error
    except ValueError as error:  # Python reads no integer of more than 4,300 digits
        raise click.ClickException(f"{file} holds a number that is too long") from error


def read_seed(file: Path) -> Seed:
    """The file's tenants and clients. Raises `click.ClickException` with every fault; then nothing is applied."""
    text, content = read_toml(file)
    reader = _SeedReader(str(file), text)
    seed = reader.read(content)
    if reader.faults:
        raise refused(str(file), reader.faults)
    return seed


class _SeedReader:
    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._lines = text.splitlines()
        self._seen: set[tuple[str, ...]] = set()
        self._elsewhere: list[tuple[str, int]] = []
        self.faults: list[str] = []

    def read(self, content: dict[str, Any]) -> Seed:
        for name in content.keys() - {"tenant", "client"}:
            known = "only [[tenant]] and [[client]] are known"
            self._fault(self._line(None, 0, name), f"{unknown_name(name)}: {known}")
        tenants = [self._tenant(number, table) for number, table in self._tables(content, "tenant")]
        clients = [self._client(number, table) for number, table in self._tables(content, "client")]
        if not tenants and not clients and not self.faults:
            self._fault(1, "it holds no [[tenant]] and no [[client]]")
        defined = {name for name, _ in tenants}
        if not self.faults:
            self._together(tenants, clients)
        elsewhere = tuple((tenant, line) for tenant, line in self._elsewhere if tenant not in defined)
        return Seed(tenants, clients, elsewhere, self._file)

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
        self._once("tenant", number, "name", str(name))
        issuer = ("issuer", str(settings.get("issuer", name)))
        if issuer in self._seen:
            self._fault(self._line("tenant", number, "issuer"), "issuer: another tenant of the file has that one")
        self._seen.add(issuer)
        self._check("tenant", number, TenantSettings, settings)
        return str(name), settings

    def _client(self, number: int, table: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        settings = dict(table)
        tenant, client_id = settings.pop("tenant", None), settings.pop("client_id", None)
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            self._fault(self._line("client", number, "tenant"), "tenant: names the tenant the client belongs to")
        if not isinstance(client_id, str) or not CLIENT_ID.fullmatch(client_id):
            self._fault(self._line("client", number, "client_id"), "client_id must be [A-Za-z0-9_-]{1,64}")
        else:
            self._once("client", number, "client_id", str(tenant), client_id)
            self._elsewhere.append((str(tenant), self._line("client", number, "tenant")))
        self._check("client", number, ClientSettings, settings)
        return str(tenant), str(client_id), settings

    def _together(
        self, tenants: list[tuple[str, dict[str, Any]]], clients: list[tuple[str, str, dict[str, Any]]]
    ) -> None:
        """Check settings that are valid alone, but not with the client's other settings, or its tenant's."""
        known = {name: parse(TenantSettings, settings) for name, settings in tenants}
        for number, (_, settings) in enumerate(tenants):
            try:
                for_tenant(settings)
            except OAuthError as error:
                self._fault(self._line("tenant", number, error.description.split(":")[0]), error.description)
        for number, (tenant, _, settings) in enumerate(clients):
            try:
                for_client(settings, known.get(tenant, TenantSettings()))
            except OAuthError as error:
                self._fault(self._line("client", number, error.description.split(":")[0]), error.description)

    def _once(self, kind: str, number: int, name: str, *who: str) -> None:
        if (kind, *who) in self._seen:
            self._fault(self._line(kind, number, name), f"{name}: this {kind} is in the file twice")
        self._seen.add((kind, *who))

    def _check(self, kind: str, number: int, shape: Any, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            try:
                parse(shape, {name: value})
            except OAuthError as error:
                self._fault(self._line(kind, number, name), error.description)

    def _fault(self, line: int, text: str) -> None:
        self.faults.append(f"line {line}: {text}")

    def _line(self, kind: str | None, number: int, name: str) -> int:
        """The line of `name` in the `number`th [[kind]]; the table's first line where it is not set."""
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
