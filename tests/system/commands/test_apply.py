"""`heirloom apply` where the service is unavailable or refuses, and with bad files."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from nats.aio.msg import Msg

from events.bus.connect import connect
from events.bus.connection import Connection
from heirloom.cli.commands.apply import apply_seed
from heirloom.cli.main import main
from heirloom.seed import Seed
from tests.broker import Broker
from tests.seed import client, seed, tenant

SUBJECT = "admin.acme.tenant.put"
SEED = Seed([("acme", {})], [])
DONE = {"seq": 7, "changed": True}
NOT_NOW = {"error": "temporarily_unavailable", "error_description": "the log does not answer now; try again"}
NEVER = {"error": "invalid_request", "error_description": "issuer: is no URL"}


@pytest.fixture
async def operator(nats_server: Broker) -> AsyncIterator[Connection]:
    """Connected to a broker without a service."""
    connection = await connect(nats_server.url, "operator")
    yield connection
    await connection.close()


async def _answer(connection: Connection, *answers: dict[str, Any], subject: str = SUBJECT) -> list[dict[str, Any]]:
    """Send these answers, one by one; returns the list that the requests are appended to."""
    left, asked = list(answers), []

    async def answer(message: Msg) -> None:
        asked.append(json.loads(message.data))
        await message.respond(json.dumps(left.pop(0)).encode())

    await connection.subscribe(subject, cb=answer)
    await connection.flush()  # or the command may ask before anybody listens
    return asked


async def test_an_unavailable_service_is_asked_again(operator: Connection) -> None:
    """As when the brokers of a cluster have started and not yet elected a leader."""
    asked = await _answer(operator, NOT_NOW, NOT_NOW, DONE)
    assert await apply_seed(operator, SEED) == [{"what": "tenant", "name": "acme"} | DONE]
    assert asked == [{}, {}, {}]


@pytest.mark.parametrize(("answer", "secrets"), [(NEVER, False), (NOT_NOW, True)], ids=["for good", "with secrets"])
async def test_a_refusal_is_reported(operator: Connection, answer: dict[str, Any], secrets: bool) -> None:
    """At once where it is final, or where a secret may have been made, which is shown only once."""
    asked = await _answer(operator, answer, DONE)
    with pytest.raises(click.ClickException) as refused:
        await apply_seed(operator, SEED, secrets=secrets)
    nothing = "applied before it: nothing\nnot applied after it: nothing"
    assert refused.value.message == f"{SUBJECT}: {answer['error_description']}\n{nothing}"
    assert len(asked) == 1


SECRETS = [f"secret-{number}" for number in range(20)]
MADE = [DONE | {"client_secret": secret} for secret in SECRETS]


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
async def test_a_refusal_names_what_was_applied_before_it(
    operator: Connection, nats_server: Broker, tmp_path: Path, form: tuple[str, ...]
) -> None:
    """By name, with the secrets, which are shown only once; and what was not applied after it."""
    file = tmp_path / "seed.toml"
    file.write_text(seed(tenant("acme"), *(client(f"c{number:02}") for number in range(30))))
    await _answer(operator, DONE)
    asked = await _answer(operator, *MADE, NEVER, subject="admin.acme.client.put")
    command = ["apply", str(file), "--show-secrets", "--nats", nats_server.url, *form]
    done = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert done.exit_code == 1 and len(asked) == 21
    assert "admin.acme.client.put: issuer: is no URL\n" in done.stderr
    assert "applied before it: tenant acme, client acme/c00, client acme/c01, " in done.stderr
    assert "and 11 more\n" in done.stderr and "c19" not in done.stderr, "a line has an end"
    assert "not applied after it: client acme/c21, client acme/c22, " in done.stderr and "c29" in done.stderr
    if form:
        shown = [(item["name"], item.get("client_secret")) for item in json.loads(done.stdout)]
        assert shown == [("acme", None), *((f"acme/c{n:02}", f"secret-{n}") for n in range(20))]
    else:
        assert all(text in done.stdout for text in ("acme/c19", *SECRETS))
        assert "c20" not in done.stdout


@pytest.mark.parametrize("content", ["", "# nothing\n", "tenant = []\n"])
def test_a_seed_with_nothing_in_it_is_refused(content: str, tmp_path: Path) -> None:
    """It is a wrong file, or a truncated one."""
    file = tmp_path / "seed.toml"
    file.write_text(content)
    done = CliRunner().invoke(main, ["apply", str(file)])
    assert done.exit_code == 1
    assert "no [[tenant]] and no [[client]]" in done.stderr and not done.stdout


@pytest.mark.parametrize("command", [("client", "put", "web"), ("tenant", "put")], ids=lambda command: command[0])
def test_a_file_without_settings_resets_nothing(command: tuple[str, ...], tmp_path: Path) -> None:
    """It is refused as a command without settings is, for it would reset every setting to its default."""
    file = tmp_path / "empty.toml"
    file.write_text("# nothing\n")
    for given in ((), ("--file", str(file))):
        done = CliRunner().invoke(main, ["admin", *command, *given, "--tenant", "acme", "--nats", "nats://127.0.0.1:1"])
        assert done.exit_code == 2 and "all settings are replaced" in done.stderr


async def test_an_unavailable_tenant_lookup_is_not_reported_as_an_unknown_tenant(operator: Connection) -> None:
    """For a client whose tenant is not in the file."""
    seed = Seed([], [("acme", "web", {})], elsewhere=(("acme", 2),))
    await _answer(operator, NOT_NOW, subject="oauth.acme.public.metadata")
    with pytest.raises(click.ClickException) as refused:
        await apply_seed(operator, seed)
    assert refused.value.message == NOT_NOW["error_description"]


def test_a_files_text_does_not_control_the_terminal(tmp_path: Path) -> None:
    """Control characters and pasted tokens in setting names are not printed."""
    file = tmp_path / "seed.toml"
    settings = '"a\\u001b[2J" = 1\n"hrt_0123456789abcdefghij" = true\n"\\u009b" = 1\n'
    file.write_text(f'{tenant("acme")}{settings}["\\u001b]0;x"]\n["eyJhbGciOiJFUzI1NiJ9"]\n')
    done = CliRunner().invoke(main, ["apply", str(file)])
    assert done.exit_code == 1
    assert "unknown setting" in done.output
    assert "\x1b" not in done.output
    assert "\x9b" not in done.output
    assert "hrt_" not in done.output
    assert "eyJ" not in done.output
