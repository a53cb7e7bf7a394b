"""A replica in this process, on the test's own broker."""

import asyncio
import io
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from events.bus import connection as bus
from events.bus.connect import connect
from events.log import stream
from heirloom.app import Disconnected, ReplicaSettings, run_replica
from heirloom.process.process_report import Reporter
from service import clock
from service.json_log import JsonLog
from service.keys import keyring
from tests.broker import Broker


class Replica(NamedTuple):
    """A running replica: the task ends after `stop` is set."""

    task: "asyncio.Task[None]"
    stop: asyncio.Event
    reporter: Reporter


async def start_replica(broker: Broker, directory: Path) -> Replica:
    """Start a replica with a new keyring, and wait until it is ready."""
    keyring.create(directory / "keyring.json")
    settings = ReplicaSettings(broker.url, directory / "keyring.json", stream.Required(), None, try_doors=False)
    reporter, stop, ready = Reporter(), asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(run_replica(settings, JsonLog(io.BytesIO()), reporter, stop, ready))
    await asyncio.wait_for(ready.wait(), 10)
    return Replica(task, stop, reporter)


@pytest.mark.parametrize("which", ["heirloom log", "heirloom api", "heirloom admin"])
async def test_a_connection_closed_for_good_ends_the_replica(
    nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """The broker closes one that violates its rules: the replica must end, so that it is started again."""
    connected: dict[str, bus.Connection] = {}

    async def noted(url: str, name: str, **options: Any) -> bus.Connection:
        connected[name] = await connect(url, name, **options)
        return connected[name]

    monkeypatch.setattr("heirloom.broker.own_connection.connect", noted)
    replica = await start_replica(nats_server, tmp_path)
    await connected[which].close()
    with pytest.raises(Disconnected, match="for good"):
        await asyncio.wait_for(replica.task, 10)
    assert all(connection.is_closed for connection in connected.values())


async def test_a_replica_with_a_wrong_clock_refuses_requests(
    nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour ahead it would forget revocations (RFC 7009 §2.2): it is unready and counted until its clock is right."""
    right = clock.machine
    monkeypatch.setattr(clock, "machine", lambda: right() + timedelta(hours=1))
    replica = await start_replica(nats_server, tmp_path)
    connection = await connect(nats_server.url, "test")
    for subject in ("oauth.acme.client.web.token", "oauth.acme.public.jwks", "admin.acme.tenant.put"):
        answer = json.loads((await connection.request(subject, b"{}", timeout=5)).data)
        assert answer["error"] == "temporarily_unavailable"
    report = await replica.reporter.gather()
    assert "its clock is 3600.0 s ahead of the broker's, more than 300 s" in report.obstacles
    figures = {metric.name: metric.samples[0].value for metric in report.metrics if metric.samples}
    assert figures["heirloom_clock_wrong"] >= 1 and 3599 < figures["heirloom_clock_ahead_seconds"] < 3601
    monkeypatch.setattr(clock, "machine", right)
    answer = json.loads((await connection.request("admin.acme.tenant.put", b"{}", timeout=5)).data)
    assert "seq" in answer
    assert (await replica.reporter.gather()).obstacles == ()
    await connection.close()
    replica.stop.set()
    await replica.task


async def test_tokens_are_issued_by_the_brokers_clock(
    nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine is 200 s ahead, which is tolerated: `iat` is by one clock on all replicas (RFC 7519 §4.1.6)."""
    right = clock.machine
    monkeypatch.setattr(clock, "machine", lambda: right() + timedelta(seconds=200))
    monkeypatch.setattr(clock, "_broker_ahead_of_steady", None)
    replica = await start_replica(nats_server, tmp_path)
    connection = await connect(nats_server.url, "test")

    async def ask(subject: str, **parameters: object) -> dict[str, Any]:
        answer = await connection.request(subject, json.dumps(parameters).encode(), timeout=5)
        return dict(json.loads(answer.data))

    await ask("admin.acme.tenant.put")
    await ask("admin.acme.client.put", client_id="web", grant_types=["client_credentials"], scope="read")
    await ask("admin.acme.client.put", client_id="api", may_introspect=True)
    given = await ask("oauth.acme.client.web.token", grant_type="client_credentials")
    monkeypatch.setattr(clock, "machine", right)
    asked = "oauth.acme.client.api.introspect"
    about = await ask(asked, token=given["access_token"])
    assert about["active"] and about["iat"] <= right().timestamp() + 60, "by the broker's clock"
    await connection.close()
    replica.stop.set()
    await replica.task


@pytest.mark.parametrize("given", ["", "many", "-1", "1e9", "1048575", "9" * 16, "1_048_576"])
def test_a_bad_cache_size_is_refused(tmp_path: Path, given: str) -> None:
    """In one line that names the variable, before any connection is made."""
    env = os.environ | {"HEIRLOOM_NATS_URL": "nats://nobody", "HEIRLOOM_KEYRING": str(tmp_path / "keyring.json")}
    program, env["HEIRLOOM_CACHE_BYTES"] = [sys.executable, "-m", "heirloom.replica"], given
    done = subprocess.run(program, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "HEIRLOOM_CACHE_BYTES is" in done.stderr and "1048576 or more" in done.stderr
