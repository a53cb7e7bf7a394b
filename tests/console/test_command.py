"""`heirloom console` as a process: start, output, end."""

import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from heirloom.cli.main import main
from tests.console.browser import running


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_stops_cleanly(read_model: Path, signum: signal.Signals) -> None:
    """One line when it is ready, a token to log in with, and status 0, also while a browser is connected."""
    with running("--read-model", read_model) as console, httpx.Client(base_url=console.url) as browser:
        assert browser.get("/read-model.json").status_code == 401
        assert browser.post("/login", data={"token": console.token}).status_code == 303
        assert browser.get("/read-model/incidents.json?_shape=array").json()[0]["family_id"] == "f0"
        assert len(console.token) == 43
        assert console.stop(signum) == 0


@pytest.mark.parametrize(
    ("arguments", "why", "status"),
    [
        (["--data", "nowhere"], "heirloom up --data nowhere", 1),
        (["--read-model", "nowhere.db"], "heirloom audit replay", 1),
        (["--host", "0.0.0.0", "--no-login"], "--no-login is for a loopback address alone", 1),
        (["--host", "0.0.0.0"], "--tls-cert and --tls-key", 1),
        (["--tls-cert", "nowhere.pem", "--tls-key", "nowhere.pem"], "the certificate cannot be used", 1),
        (["--tenant", "Not A Tenant"], "no tenant's name", 2),
        (["--token-file", "nowhere"], "cannot read the login token", 1),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_why_it_does_not_start(read_model: Path, arguments: list[str], why: str, status: int) -> None:
    """A line that says what to do, an exit status, and no traceback."""
    if not {"--data", "--read-model"} & set(arguments):
        arguments = ["--read-model", str(read_model), *arguments]
    assert_refused(arguments, why, status)


def test_a_port_in_use(read_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_refused(["--read-model", str(read_model), "--port", port], "choose another with --host or --port")


def test_a_missing_datasette(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what to install."""
    monkeypatch.delitem(sys.modules, "heirloom.console.serve", raising=False)
    monkeypatch.setitem(sys.modules, "datasette.app", None)
    assert_refused([], "pip install 'heirloom-oauth[console]'")


def assert_refused(arguments: list[str], why: str, status: int = 1) -> None:
    """The command ends at once, with a line on standard error."""
    done = CliRunner().invoke(main, ["console", "--port", "0", *arguments])
    assert done.exit_code == status
    assert why in done.stderr.replace("\n", " ")
    assert done.stdout == ""
    assert isinstance(done.exception, SystemExit)
