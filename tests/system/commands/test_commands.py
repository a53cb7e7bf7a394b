"""The commands when something is in the way: one clear line on standard error, and the documented exit status."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import nats
import pytest

from bench.machine import children
from heirloom.broker.nats_server import binary
from service.keys import keyring
from tests.broker import Broker
from tests.security.test_tls import authority
from tests.seed import client, seed, tenant
from tests.system.service import HEIRLOOM, PATIENCE_SECONDS, SEED, Service, running, without_waiting
from tests.system.workspace import EXCHANGE

STOPPED_AT_IMPORT = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "heirloom.cli.commands.up":
            os.kill(os.getpid(), {:d})
sys.meta_path.insert(0, Finder())
"""


def heirloom(*arguments: str | Path, status: int = 0, seconds: float = 30) -> str:
    """Run the command; its standard output, or its standard error, without a traceback, where it must fail."""
    done = subprocess.run([HEIRLOOM, *arguments], capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    if status != 0:
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
    return without_waiting(done.stderr) if status else done.stdout


@pytest.mark.parametrize("command", ["up", "broker-config", "console", "backup"])
def test_no_name_is_no_directory(command: str, tmp_path: Path) -> None:
    """It would mean the current directory, and make that private."""
    into = [tmp_path / "backup"] if command == "backup" else []
    said = heirloom(command, "--data", "", *into, status=2)
    assert "names no directory" in said


def test_a_second_up_on_the_same_data(service: Service) -> None:
    """It reports that another one runs there."""
    said = heirloom("up", "--data", service.data, "--port", "0", status=1)
    assert said.count("\n") == 1 and "another heirloom up runs" in said


def test_a_broker_configured_under_a_running_service(service: Service) -> None:
    """Refused: the broker would start again elsewhere than the service looks for it."""
    before = (service.data / "nats.conf").read_bytes()
    said = heirloom("broker-config", "--data", service.data, "--listen", "127.0.0.1:1", status=1)
    assert said.count("\n") == 1 and "another heirloom up runs" in said and "choose another --data" in said
    assert (service.data / "nats.conf").read_bytes() == before


def test_a_port_in_use(tmp_path: Path) -> None:
    """It names the port and the way out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = heirloom("up", "--data", tmp_path / "data", "--port", str(port), status=1)
    assert said.count("\n") == 1 and f"port {port} is in use" in said


def test_a_corrupt_keyring(tmp_path: Path) -> None:
    """It names the file, and makes no other keyring, which would invalidate every token."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "keyring.json").touch(0o600)
    (data / "keyring.json").write_text("{")
    said = heirloom("up", "--data", data, "--port", "0", status=1)
    assert said.count("\n") == 1 and "keyring.json is corrupt" in said


def test_a_keyring_that_is_missing_or_of_another_log(tmp_path: Path) -> None:
    """A log without its keyring is neither served nor signed, for every token would be invalid, silently.

    With `--no-notary` there is neither a notary process nor a key.
    """
    data = tmp_path / "data"
    with running(data, "--no-notary") as service:
        assert not service.pids("heirloom.notary")
    assert not (data / "notary.key").exists() and not (data / "notary.log").exists(), "there was no notary"
    (data / "keyring.json").unlink()
    assert "no keyring" in heirloom("up", "--data", data, "--port", "0", status=1)
    keyring.create(data / "keyring.json")
    said = heirloom("up", "--data", data, "--port", "0", status=1)
    assert said.count("\n") == 1 and "keyring" in said
    assert not (data / "notary.log").exists(), "there was none now either"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["cannot read"]),
        ("= nothing", ["is not TOML"]),
        ("[tenant]\nname = 'x'", ["line 1", "[[tenant]]"]),
        (
            client("b b", access_token_tll=1, refresh_token_ttl=-1, grant_types=["telepathy"]),
            ["line 3: client_id", "line 4: access_token_tll", "did you mean access_token_ttl", "line 5", "line 6"],
        ),
        (
            "# \N{LATIN SMALL LETTER E WITH ACUTE}\n"
            + seed(client("app", token_endpoint_auth_method="none", refresh_token_rotation="reuse"), tenant("acme")),
            ["line 6: refresh_token_rotation", "must rotate"],
        ),
        (
            seed(tenant("acme", issuer="https://acme.example"), tenant("twin", issuer="https://acme.example")),
            ["line 7: issuer: another tenant"],
        ),
        (
            tenant("open", token_endpoint_auth_method="none", grant_types=[EXCHANGE]),
            ["line 4: grant_types: a public client"],
        ),
    ],
    ids=["missing", "not TOML", "wrong table", "four faults", "not together", "one issuer", "open exchange"],
)
def test_a_seed_that_cannot_be_used(tmp_path: Path, content: str | None, words: list[str]) -> None:
    """It is refused as a whole before anything starts; every fault has its line."""
    file = tmp_path / "seed.toml"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    said = heirloom("up", "--data", tmp_path / "data", "--port", "0", "--seed", file, status=1)
    assert all(word in said for word in words), said
    assert not (tmp_path / "data").exists()


def test_a_broker_that_is_not_there(tmp_path: Path) -> None:
    """`--nats`: the error names the address, never the password."""
    said = heirloom("up", "--data", tmp_path / "data", "--nats", "nats://u:secret@127.0.0.1:1", status=1)
    assert said.count("\n") == 1 and "no broker answers at 127.0.0.1:1" in said and "secret" not in said


def test_no_service_to_ask(tmp_path: Path) -> None:
    """Every other command explains how to start one."""
    for command in (["url", "--role", "auditor"], ["audit", "families", "--tenant", "acme"], ["audit", "verify"]):
        said = heirloom(*command, "--data", tmp_path / "none", status=1)
        assert said.count("\n") == 1 and "heirloom up" in said


async def test_the_only_tenant_need_not_be_named(service: Service, alone: Service) -> None:
    """With one tenant that one is used; with several the command lists them."""
    async with alone.role("auditor") as auditor:  # what other tests have left there is not to arrive in between
        position = await auditor.ask("audit.acme.position", {})
        assert "error" not in await auditor.ask("audit.acme.position", {"min_seq": position["log_seq"]})
    said = heirloom("audit", "families", "--data", service.data, status=1)
    assert said.count("\n") == 1 and "--tenant" in said and "acme" in said and "globex" in said
    there = json.loads(heirloom("audit", "families", "--tenant", "acme", "--data", alone.data, "--json"))
    assert json.loads(heirloom("audit", "families", "--data", alone.data, "--json")) == there
    assert json.loads(heirloom("admin", "key", "rotate", "--data", alone.data, "--json"))["kid"]


def test_a_url_for_nobody(service: Service) -> None:
    """An unknown client has no URL; and one of two must be named."""
    assert "does not know the client" in heirloom("url", "--data", service.data, "--client", "acme/nobody", status=1)
    assert "name either" in heirloom("url", "--data", service.data, status=2)


@pytest.mark.parametrize(
    ("command", "given", "needed"),
    [
        (("audit", "families", "--tenant", "acme"), "operator", "auditor"),
        (("audit", "verify"), "operator", "auditor"),
        (("admin", "key", "rotate", "--tenant", "acme"), "auditor", "operator"),
        (("apply", "seed.toml"), "edge", "operator"),
        (("backup", "--no-keys", "backup"), "auditor", None),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else str(value),
)
def test_credentials_of_another_role(
    service: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    given: str,
    needed: str | None,
) -> None:
    """The broker's refusal is reported at once, with the role that is needed, instead of a timeout."""
    monkeypatch.chdir(tmp_path)
    Path("seed.toml").write_text(client("x"))
    url = heirloom("url", "--data", service.data, "--role", given).strip()
    said = heirloom(*command, "--nats", url, status=1, seconds=20)  # the broker's patience with a request is longer
    assert said.startswith("Error: these credentials may not ") and said.count("\n") == 1
    assert needed is None or f"heirloom url --role {needed}" in said
    assert command[1] in ("verify", "--no-keys") or f"`heirloom admin role add {needed} NAME --tenant acme`" in said


def test_a_broker_without_a_service(nats_server: Broker) -> None:
    """The error explains that no service answers on that broker."""
    for command in (("audit", "families"), ("admin", "key", "rotate")):
        said = heirloom(*command, "--tenant", "acme", "--nats", nats_server.url, status=1)
        assert said.count("\n") == 1 and "no service answers on a" in said and "`heirloom up`" in said


def test_a_client_of_an_unknown_tenant(service: Service, tmp_path: Path) -> None:
    """The file is refused as a whole, with the line; the good client before it is not registered."""
    file = tmp_path / "seed.toml"
    good, stray = client("early"), client("x", "nobody")
    file.write_text(good + stray + good)
    twice = heirloom("apply", "--data", service.data, file, status=1)
    assert "line 9: client_id: this client is in the file twice" in twice
    file.write_text(good + stray)
    said = heirloom("apply", "--data", service.data, file, status=1)
    assert "line 5: tenant: there is no tenant 'nobody'" in said
    assert "does not know" in heirloom("url", "--data", service.data, "--client", "acme/early", status=1)


def test_applying_twice_changes_nothing(service: Service, tmp_path: Path) -> None:
    """The second time every row is `unchanged`, with the sequences of the first."""
    file = tmp_path / "seed.toml"
    file.write_text(SEED.replace("other", "another"))
    first = json.loads(heirloom("apply", "--data", service.data, file, "--json"))
    again = json.loads(heirloom("apply", "--data", service.data, file, "--json"))
    assert {row["changed"] for row in again} == {False}
    assert [row["seq"] for row in again] == [row["seq"] for row in first]
    assert "unchanged" in heirloom("apply", "--data", service.data, file)


def test_bad_broker_urls() -> None:
    """A malformed URL is not printed; an unreachable one is named without its password."""
    said = heirloom("audit", "checkpoint", "--nats", "auditor:hunter2@host", status=2)
    assert "nats://USER:PASSWORD@HOST:4222" in said and "hunter2" not in said
    said = heirloom("audit", "checkpoint", "--nats", "nats://auditor:hunter2@127.0.0.1:1", status=1)
    assert said == "Error: no broker answers at 127.0.0.1:1\n"


def test_a_brokers_url_from_the_environment_or_a_file(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users see passwords on a command line, but in neither of these; options override them."""
    url, families = heirloom("url", "--data", service.data, "--role", "auditor").strip(), ("audit", "families")
    file = tmp_path / "url"
    file.write_text(url + "\n")
    asked = heirloom(*families, "--tenant", "acme", "--nats", f"@{file}", "--json")
    monkeypatch.setenv("HEIRLOOM_NATS", url)
    assert heirloom(*families, "--tenant", "acme", "--json") == asked
    monkeypatch.setenv("HEIRLOOM_NATS", f"@{file}")
    assert heirloom(*families, "--tenant", "acme", "--json") == asked
    monkeypatch.setenv("HEIRLOOM_NATS", "nats://auditor:hunter2@127.0.0.1:1")
    assert heirloom(*families, "--tenant", "acme", "--data", service.data, "--json") == asked
    said = heirloom("up", "--data", tmp_path / "data", status=1)
    assert "no broker answers at 127.0.0.1:1" in said and "hunter2" not in said
    monkeypatch.delenv("HEIRLOOM_NATS")
    file.write_text("auditor:hunter2@host")
    for wrong in (file, tmp_path / "none", tmp_path):
        said = heirloom(*families, "--nats", f"@{wrong}", status=2)
        assert "--nats" in said and "hunter2" not in said


def test_no_process_has_a_password_on_its_command_line(nats_server: Broker, tmp_path: Path) -> None:
    """Of `up` and its children: other users of the machine can read command lines."""
    file = tmp_path / "url"
    file.write_text(nats_server.url.replace("//", "//service:hunter2@"))
    service = Service(tmp_path / "data", "--nats", f"@{file}", "--insecure")
    service.start()
    try:
        processes = [service._process.pid, *service.pids("")]
        assert len(processes) == 5
        for pid in processes:
            assert b"hunter2" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    finally:
        service.stop()


def test_a_broker_that_others_reach_is_not_configured_without_tls(tmp_path: Path) -> None:
    """Without TLS, passwords and tokens would cross the network in the clear; `--insecure` allows it."""
    elsewhere = "broker-config", "--data", tmp_path / "data", "--listen", "0.0.0.0:4222"
    said = heirloom(*elsewhere, status=1)
    assert said.count("\n") == 1 and "in the clear" in said and "--tls-cert" in said and "--insecure" in said
    assert not (tmp_path / "data").exists()
    ours = authority(tmp_path)
    certificate, key = ours.sign("broker")
    for nodes in ((), ("--node", "a", "--node", "b", "--node", "c")):
        heirloom(*elsewhere, "--tls-cert", certificate, "--tls-key", key, *nodes)
        config = tmp_path / "data" / ("a.conf" if nodes else "nats.conf")
        checked = subprocess.run([binary(), "-t", "--config", config], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert config.read_text().count(f'cert_file: "{certificate}"') == (2 if nodes else 1), "routes are in the clear"
    heirloom(*elsewhere, "--insecure")
    assert "cert_file" not in (tmp_path / "data" / "nats.conf").read_text()


async def test_an_address_of_ipv6(tmp_path: Path) -> None:
    """In brackets wherever it stands beside a port (RFC 3986 §3.2.2): configuration, up.json, `ready`, `url`."""
    service = Service(tmp_path / "data", "--host", "::1", "--metrics", "[::1]:0", "--no-notary")
    service.start()
    try:
        assert service.host.startswith("[::1]:")
        url = heirloom("url", "--data", service.data, "--client", "acme/web").strip()
        assert url.endswith(f"@{service.host}")
        connection = await nats.connect(url, inbox_prefix="_INBOX.acme.web")
        reply = await connection.request("oauth.acme.client.web.issue", b'{"sub": "alice", "scope": "read"}')
        assert "access_token" in json.loads(reply.data)
        await connection.close()
        assert "alice" in heirloom("audit", "families", "--tenant", "acme", "--data", service.data)
        metrics = json.loads((service.data / "up.json").read_text())["metrics"]
        assert metrics.startswith("[::1]:")
        answer = await asyncio.to_thread(urllib.request.urlopen, f"http://{metrics}/livez", timeout=10)
        with answer:
            assert answer.status == 200
    finally:
        service.stop()


async def test_an_external_broker(tmp_path: Path, nats_server: Broker) -> None:
    """`--nats`: the service runs on a broker that it did not start, which authenticates the callers itself."""
    with running(tmp_path / "data", "--nats", nats_server.url, "--insecure"):
        connection = await nats.connect(nats_server.url, inbox_prefix="_INBOX.acme.web")
        reply = await connection.request("oauth.acme.client.web.issue", b'{"sub": "alice", "scope": "read"}')
        position = json.loads((await connection.request("audit.acme.position", b"{}")).data)
        caught_up = json.dumps({"min_seq": position["log_seq"]}).encode()
        assert b"error" not in (await connection.request("audit.acme.position", caught_up, timeout=10)).data
        await connection.close()
        assert "alice" in heirloom("audit", "families", "--tenant", "acme", "--data", tmp_path / "data")
        said = heirloom("url", "--data", tmp_path / "data", "--client", "acme/web", status=1)
        assert nats_server.url.removeprefix("nats://") in said and said.count("\n") == 1
    assert "access_token" in json.loads(reply.data)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_it_starts(tmp_path: Path, signum: signal.Signals) -> None:
    """During the imports: it ends with status 0 and prints nothing."""
    (tmp_path / "sitecustomize.py").write_text(STOPPED_AT_IMPORT.format(signum))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command: list[str | Path] = [HEIRLOOM, "up", "--data", tmp_path / "data", "--port", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts(tmp_path: Path, nats_server: Broker, signum: signal.Signals) -> None:
    """Its broker is killed before anything is served: it ends with status 0, and so do its children."""
    command: list[str | Path] = [HEIRLOOM, "up", "--data", tmp_path / "data", "--replicas", "2"]
    command += ["--nats", nats_server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as starting:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(begun := children(starting.pid)) < 2:
            assert starting.poll() is None and time.monotonic() < deadline
        nats_server.kill()
        starting.send_signal(signum)
        said, complained = starting.communicate(timeout=PATIENCE_SECONDS)
    assert (starting.returncode, said, complained) == (0, b"", b"")
    assert not set(begun) & {int(pid.name) for pid in Path("/proc").iterdir() if pid.name.isdigit()}


async def test_a_weaker_stream_is_refused(tmp_path: Path, nats_server: Broker) -> None:
    """A stream with a weaker limit: the service does not start, and names each difference."""
    connection = await nats.connect(nats_server.url)
    await connection.jetstream().add_stream(name="TOKENS", subjects=["tokens.>"], max_age=3600)
    await connection.close()
    said = heirloom("up", "--data", tmp_path / "data", "--nats", nats_server.url, "--insecure", status=1)
    assert said.count("\n") == 2 and said.startswith("heirloom: --insecure: nobody tries")
    assert all(name in said for name in ("max_age", "deny_delete", "deny_purge", "allow_atomic", "discard"))
