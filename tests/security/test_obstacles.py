"""Why a command or the service cannot reach the broker: the real reason, in one line."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from heirloom.broker.tls import Tls
from tests.broker import Broker
from tests.security.test_doors import configured
from tests.security.test_tls import authority
from tests.system.commands.test_commands import heirloom
from tests.system.service import HEIRLOOM

KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n"


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Broker]:
    """A broker whose certificate is signed by an unknown authority."""
    certificate, key = authority(tmp_path).sign("broker")
    with configured(tmp_path / "broker", Tls(str(certificate), str(key)).configuration()) as server:
        yield server


def test_a_certificate_of_an_unknown_authority(
    secured: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the certificate; with the authority the command goes on."""
    url = secured.url.replace("nats://", "tls://")
    for command in (["audit", "verify"], ["up", "--data", tmp_path / "data"]):
        said = heirloom(*command, "--nats", url, status=1)
        assert said.count("\n") == 1 and "the certificate of the broker at" in said and "SSL_CERT_FILE" in said
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    said = heirloom("audit", "families", "--tenant", "acme", "--nats", url, status=1)
    assert said.count("\n") == 1 and "no service answers" in said


def test_a_broker_that_hangs(tmp_path: Path) -> None:
    """It does not answer, so what it accepts is unknown."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        for command in (["audit", "verify"], ["up", "--data", tmp_path / "data"]):
            said = heirloom(*command, "--nats", url, status=1)
            assert said.count("\n") == 1 and "does not answer" in said and "Timeout" not in said


def test_a_broker_that_requires_other_credentials(tmp_path: Path) -> None:
    """It answers, and refuses the service."""
    with configured(tmp_path / "broker", "authorization { user: somebody, password: else }") as server:
        said = heirloom("up", "--data", tmp_path / "data", "--nats", server.url, status=1)
    assert said.count("\n") == 1 and "does not let the service in: 'Authorization Violation'" in said


def test_a_malformed_port() -> None:
    """The error names the port, without the password."""
    said = heirloom("audit", "verify", "--nats", "nats://u:hunter2@127.0.0.1:notaport", status=2)
    assert "the port" in said and "hunter2" not in said


def test_an_error_suggests_no_missing_option(tmp_path: Path) -> None:
    """`url` has no --nats, so its error does not mention one."""
    said = heirloom("url", "--role", "auditor", "--data", tmp_path / "none", status=1)
    assert "heirloom up --data" in said and "--nats" not in said


def test_a_key_that_cannot_be_written_out(tmp_path: Path) -> None:
    """The error is about standard output, not about the notary."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "notary.pub").write_text(KEY)
    with Path("/dev/full").open("w") as full:
        command: list[str | Path] = [HEIRLOOM, "audit", "notary-key", "--data", data]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: cannot write the answer: No space left on device\n")
