"""`heirloom admin` as a person uses it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system.service import HEIRLOOM, SENT_AGAIN, Service

TENANT = "commands"


def admin(service: Service, *arguments: str | Path, status: int = 0) -> str:
    """Run it; its standard output, or standard error when it is to fail: then one line.

    What a busy machine's log does not answer is run once more, as the command says.
    """
    command = [HEIRLOOM, "admin", *arguments, "--tenant", TENANT, "--data", service.data]
    for _ in range(SENT_AGAIN):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if "try again" not in done.stderr:
            break
    assert done.returncode == status, done.stdout + done.stderr
    if status == 1:
        assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    return done.stderr if status else done.stdout


def answer(service: Service, *arguments: str | Path) -> Any:
    return json.loads(admin(service, *arguments, "--json"))


async def test_a_day_of_an_operator(service: Service, tmp_path: Path) -> None:
    """Register, issue, block, unblock, disable, enable, withdraw, revoke; each is told as a table or as JSON."""
    assert "changed" in admin(service, "tenant", "put", "--set", "issuer=https://commands.example")
    file = tmp_path / "client.toml"
    file.write_text('grant_types = ["refresh_token"]\nscope = "read"\nmay_issue = true\n')
    shown = admin(service, "client", "put", "web", "--file", file, "--set", "scope=read offline_access")
    secret = next(line.split()[-1] for line in shown.splitlines() if "client_secret" in line)
    again = answer(service, "client", "put", "web", "--file", file, "--set", "scope=read offline_access")
    assert again["changed"] is False and "client_secret" not in again and len(secret) > 30
    async with service.client("web", TENANT) as web:
        await web.issue(scope="read offline_access")
        assert answer(service, "subject", "block", "alice", "--reason", "a lost phone")["revoked_families"] == 1
        assert (await web.ask("issue", {"sub": "alice", "scope": "read"}))["error"] == "invalid_grant"
        assert answer(service, "subject", "unblock", "alice")["revoked_families"] == 0
        await web.issue(scope="read offline_access")
        assert "families revoked  1" in admin(service, "consent", "revoke", "alice", "web")
        await web.issue(scope="read offline_access")
        assert answer(service, "subject", "revoke", "alice")["revoked_families"] == 1
        await web.issue(scope="read offline_access")
        assert answer(service, "client", "disable", "web")["revoked_families"] == 1
        assert answer(service, "client", "enable", "web")["revoked_families"] == 0
    assert "there is no such client" in admin(service, "client", "disable", "nobody", status=1)
    target = "--tenant", TENANT, "--data", str(service.data)
    typo = subprocess.run([HEIRLOOM, "admin", "subject", "block", "alcie", *target], capture_output=True, text=True)
    assert (typo.returncode, typo.stderr) == (
        0,
        "Nothing of alcie was alive. If you expected otherwise, look at the name.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("client", "put", "x", "--set", "scop=read"), "did you mean scope?"),
        (("client", "put", "x", "--set", "access_token_ttl=soon"), "access_token_ttl"),
        (("family", "revoke", "nothere"), "there is no such family"),
        (("family", "revoke", "\udcff"), "no text in UTF-8"),
        (("tenant", "put", "--file", "/nowhere.toml"), "cannot read /nowhere.toml"),
    ],
)
def test_mistakes_are_told_in_one_line(service: Service, arguments: tuple[str, ...], said: str) -> None:
    """With what to do about them, and no traceback."""
    admin(service, "tenant", "put", "--set", "issuer=https://commands.example")
    assert said in admin(service, *arguments, status=1)


def test_a_setting_without_a_value(service: Service) -> None:
    """Is a matter of usage."""
    assert "NAME=VALUE" in admin(service, "tenant", "put", "--set", "issuer", status=2)


def test_nothing_is_reset_by_an_order_that_names_nothing(service: Service) -> None:
    """What is put replaces all settings: without any, a registration would be lost by a slip."""
    assert "all settings are replaced" in admin(service, "tenant", "put", status=2)
    assert "all settings are replaced" in admin(service, "client", "put", "web", "--rotate-secret", status=2)
