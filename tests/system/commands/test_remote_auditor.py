"""An auditor who has a URL, and nothing else of the service's: no data directory, no right but to ask."""

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from heirloom.broker import credentials
from heirloom.cli.main import main
from tests.system.workspace import Workspace

PATIENCE_SECONDS = 20


class Auditor:
    """Runs commands with that URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def tells(self, *command: str, status: int = 0) -> str:
        """What the command prints."""
        done = await asyncio.to_thread(CliRunner().invoke, main, ["audit", *command, "--nats", self._url])
        assert done.exit_code == status, done.output
        return done.stdout if status == 0 else done.output

    async def checkpoint(self, size: int) -> str:
        """One that covers so much: the notary signs soon after a commit."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            done = await asyncio.to_thread(CliRunner().invoke, main, ["audit", "checkpoint", "--nats", self._url])
            if done.exit_code == 0 and int(done.stdout.splitlines()[1]) >= size:
                return done.stdout
            await asyncio.sleep(0.2)
        raise AssertionError(done.output)


async def test_an_auditors_url_is_enough(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To keep a checkpoint, verify, prove, replay, export and ask what would have been; from any directory."""
    monkeypatch.chdir(tmp_path)
    data = workspace.service.data
    auditor = Auditor(credentials.load(data).url("auditor", workspace.service.host))
    await workspace.register("web")
    async with workspace.client("web") as web:
        await web.refresh((await web.issue())["refresh_token"])
    end = await workspace.sequence()
    kept = tmp_path / "kept"
    kept.write_text(await auditor.checkpoint(end))
    key = (data / "notary.pub").read_text().strip()
    assert "(signed by a known key)" in await auditor.tells("verify", "--checkpoint", str(kept), "--key", key)
    assert f'"seq":{end}' in (await auditor.tells("prove", "--seq", str(end))).replace(" ", "")
    assert "as of sequence" in await auditor.tells("replay", "--into", "all.db", "--until", str(end))
    with sqlite3.connect("all.db") as model:
        mine = model.execute("SELECT sub FROM readable_families WHERE tenant = ?", (workspace.name,)).fetchall()
    model.close()
    assert mine == [("alice",)]
    lines = await auditor.tells("export", "--tenant", workspace.name, "--format", "jsonl")
    assert {"GrantAuthorized", "TokenRotated"} <= {part for line in lines.splitlines() for part in line.split('"')}
    assert "1 that had a refresh token" in await auditor.tells("what-if", "--grace", "9", "--tenant", workspace.name)


async def test_who_may_not_read_the_log_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line that names who may."""
    monkeypatch.setattr("events.log.jetstream_api.REPLY_TIMEOUT_SECONDS", 0.5)
    await workspace.register("web")
    client = Auditor(credentials.load(workspace.service.data).client_url(workspace.name, "web", workspace.service.host))
    assert "`heirloom url --role auditor`" in await client.tells("verify", status=1)
