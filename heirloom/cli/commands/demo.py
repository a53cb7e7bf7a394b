"""`heirloom demo`: a theft, from the sign-in to the proof, on a broker of its own (contract §7)."""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import msgspec
from joserfc import jws
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from events.bus.connect import connect
from events.bus.connection import Connection
from heirloom.broker import credentials
from heirloom.cli.audit.audit_query import send_query
from heirloom.cli.commands.apply import apply_seed
from heirloom.cli.service_connection import open_bus, reach_log
from heirloom.seed import Seed
from heirloom.supervisor.options import ServiceOptions
from heirloom.supervisor.preparation import CannotStart
from heirloom.supervisor.supervisor import running

SEED = Seed(
    tenants=[("acme", {"issuer": "https://acme.example"})],
    clients=[("acme", "web", {"grant_types": ["refresh_token"], "scope": "read offline_access", "may_issue": True})],
)


@click.command()
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave the log in this new directory, for `heirloom up --data DIR`.",
)
def demo(keep: Path | None) -> None:
    """Watch a stolen refresh token end its family.

    It needs nothing, and leaves nothing behind.
    """
    if keep is not None and keep.exists():
        raise click.ClickException(f"{keep} exists already; name a new directory")
    directory = contextlib.nullcontext(keep) if keep else tempfile.TemporaryDirectory(prefix="heirloom-demo-")
    with directory as data:
        try:
            asyncio.run(_Story(Path(data), Console(highlight=False)).run())
            own = "heirloom up --seed FILE.toml" if keep is None else f"heirloom up --data {keep}"
            click.echo(f"\nThat was Heirloom. {'Start your own' if keep is None else 'Go on with this log'}: {own}")
        except CannotStart as error:
            raise click.ClickException(str(error)) from error


class _Story:
    def __init__(self, data: Path, console: Console) -> None:
        self._data = data
        self._console = console
        self._step = 0

    async def run(self) -> None:
        async with contextlib.AsyncExitStack() as service:
            with self._console.status("Starting a broker, the token service and its read model"):
                where = await service.enter_async_context(running(ServiceOptions(self._data, port=0)))
            async with open_bus(self._data, None, "operator") as operator:
                await apply_seed(operator, SEED)
            url = credentials.load(self._data).client_url("acme", "web", where.host)
            app = await connect(url, "web", inbox_prefix="_INBOX.acme.web", patient=False)
            family_id = await self._theft(app)
            await app.close()
            await self._proof(family_id)

    async def _theft(self, app: Connection) -> str:
        self._print_step(
            "Alice signs in. The app gets two tokens.",
            "A short-lived access token, and a refresh token to get the next pair with. They begin a family.",
        )
        first = await _request(app, "issue", {"sub": "alice", "scope": "read offline_access"})
        self._print_step(
            "Somebody copies the refresh token.",
            "From a log, a backup, a lost laptop: nobody notices. This is generation 0.",
        )
        self._print_step(
            "The app refreshes twice, as apps do.",
            "Each refresh token works once and gives its successor: generation 1, then generation 2.",
        )
        second = await _refresh(app, first)
        third = await _refresh(app, second)
        tokens = {
            "refresh token, generation 2 (Alice's newest)": third["refresh_token"],
            "access token from the sign-in": first["access_token"],
            "access token from the 1st refresh": second["access_token"],
            "access token from the 2nd refresh": third["access_token"],
        }
        before = [await _active(app, token) for token in tokens.values()]
        self._print_step(
            "The thief presents generation 0.",
            "It was rotated away, so two parties hold this family, and one of them is a thief.",
        )
        refused = await _request(app, "token", {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]})
        if refused.get("error") != "invalid_grant":
            raise click.ClickException(f"the thief was not refused: {sorted(refused)}")
        self._console.print(
            "   The answer: [red]invalid_grant[/red]. Before it was sent, the whole family was ended:\n"
        )
        after = [await _active(app, token) for token in tokens.values()]
        self._show(list(tokens), before, after)
        if any(after):
            raise click.ClickException("a token of the dead family is still active")
        family_id: str = _claims(first["access_token"])["sid"]
        return family_id

    async def _proof(self, family_id: str) -> None:
        self._print_step(
            "The auditor sees exactly what happened.", "Every decision is one commit in the log, with all its events."
        )
        async with open_bus(self._data, None, "auditor") as auditor:  # the read model may lag a moment behind
            await send_query(auditor, "audit.acme.position", {"min_seq": await reach_log(auditor)})
        await self._heirloom("audit", "family", family_id)
        self._print_step(
            "And can prove that nothing was changed or left out.", "Each commit holds the hash of the one before."
        )
        await self._heirloom("audit", "verify")

    def _print_step(self, headline: str, explanation: str) -> None:
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {headline}[/bold]")
        self._console.print(Padding(f"[dim]{explanation}[/dim]", (0, 0, 0, 3)))

    def _show(self, names: list[str], before: list[bool], after: list[bool]) -> None:
        table = Table("token", "before", "after", box=None, pad_edge=False, padding=(0, 2))
        for name, was, is_now in zip(names, before, after, strict=True):
            table.add_row(name, _word(was), _word(is_now))
        self._console.print(Padding(table, (0, 0, 0, 3)))

    async def _heirloom(self, *arguments: str) -> None:
        command = [str(Path(sys.executable).with_name("heirloom")), *arguments]
        self._console.print(f"\n   [dim]$ heirloom {' '.join(arguments)}[/dim]\n")
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, "--data", str(self._data)],
            check=False,
        )
        if done.returncode != 0:
            raise click.ClickException(f"heirloom {arguments[0]} {arguments[1]} failed")


async def _request(app: Connection, endpoint: str, request: dict[str, Any]) -> dict[str, Any]:
    reply = await app.request(f"oauth.acme.client.web.{endpoint}", msgspec.json.encode(request), timeout=5)
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    return answer


async def _refresh(app: Connection, tokens: dict[str, Any]) -> dict[str, Any]:
    return await _request(app, "token", {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]})


async def _active(app: Connection, token: str) -> bool:
    active: bool = (await _request(app, "introspect", {"token": token}))["active"]
    return active


def _claims(jwt: str) -> dict[str, Any]:
    claims: dict[str, Any] = msgspec.json.decode(jws.extract_compact(jwt.encode()).payload)
    return claims


def _word(active: bool) -> str:
    return "[green]active[/green]" if active else "[red]dead[/red]"
