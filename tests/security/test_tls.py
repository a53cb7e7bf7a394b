"""TLS on the embedded broker: what is encrypted, which certificates are required, and what is refused."""

import datetime
import ipaddress
import json
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import nats
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nats.aio.client import Client

from heirloom.broker import credentials
from heirloom.broker.tls import CannotSecure, required
from tests.system.service import HEIRLOOM, PATIENCE_SECONDS, Service

_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority(NamedTuple):
    """A certificate authority with its files in a directory."""

    directory: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    def sign(self, name: str, ends_in: float = 3600) -> tuple[Path, Path]:
        """A certificate for the loopback address that expires in that many seconds, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        unsigned = (  # Python 3.13 requires both extensions (RFC 5280 §4.2.1.1)
            _unsigned(_named(name), self.name, key, ends_in)
            .add_extension(address, critical=False)
            .add_extension(signer, critical=False)
        )
        certificate, secret = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.write_bytes(unsigned.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
        return certificate, secret

    @property
    def certificate(self) -> Path:
        """The authority's own certificate."""
        return self.directory / "ca.pem"


def authority(directory: Path) -> Authority:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = Authority(directory, _named("test authority"), key)
    unsigned = (
        _unsigned(made.name, made.name, key)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_SIGNS, critical=True)
    )
    signed = unsigned.sign(key, hashes.SHA256())
    made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return made


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends_in: float = 3600
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(seconds=ends_in - 7200))
        .not_valid_after(now + datetime.timedelta(seconds=ends_in))
    )


async def test_clients_must_present_a_certificate(tmp_path: Path) -> None:
    """With `--tls-ca`: credentials and a certificate together connect, one without the other does not."""
    ours = authority(tmp_path)
    certificate, key = ours.sign("broker")
    options = "--tls-cert", str(certificate), "--tls-key", str(key), "--tls-ca", str(ours.certificate)
    service = Service(tmp_path / "data", *options, "--host", "0.0.0.0", "--no-notary")
    service.start()
    try:
        url = _url(service, "--client", "acme/web")
        assert url.startswith("tls://acme.web:")
        _url(service, "--role", "operator")
        trusting = ssl.create_default_context(cafile=str(ours.certificate))
        with pytest.raises((nats.errors.Error, OSError)):
            await _connect(url, trusting)
        trusting.load_cert_chain(*ours.sign("client"))
        connection = await _connect(url, trusting)
        answer = await connection.request("oauth.acme.client.web.issue", b'{"sub":"alice","scope":"read"}')
        assert "access_token" in json.loads(answer.data)
        await connection.close()
        with pytest.raises((nats.errors.Error, OSError)):
            await _connect(url.replace("acme.web:", "acme.web:x"), trusting)
        with pytest.raises((nats.errors.Error, OSError)):  # without TLS
            await nats.connect(
                credentials.load(service.data).url("operator", service.host),
                max_reconnect_attempts=0,
                allow_reconnect=False,
            )
        listed = subprocess.run(
            [str(HEIRLOOM), "audit", "families", "--data", str(service.data), "--tenant", "acme"],
            capture_output=True,
            text=True,
        )
        assert listed.returncode == 0 and "alice" in listed.stdout, listed
        assert service.stop() == 0
    except BaseException:
        service.stop()
        raise


@pytest.mark.parametrize(
    ("host", "which", "why"),
    [
        ("0.0.0.0", (None, None, None), "in the clear"),
        ("192.0.2.1", (None, None, None), "in the clear"),
        ("127.0.0.1", ("broker.pem", None, None), "belong together"),
        ("127.0.0.1", (None, None, "ca.pem"), "belong together"),
        ("0.0.0.0", ("broker.pem", "missing.key", None), "there is no file"),
        ("0.0.0.0", ("broker.pem", "other.key", None), "not a certificate and its key"),
    ],
)
def test_insecure_options_are_refused(
    tmp_path: Path, host: str, which: tuple[str | None, str | None, str | None], why: str
) -> None:
    """In one line, before anything is started."""
    ours = authority(tmp_path)
    for name in ("broker", "other"):
        ours.sign(name)
    files = [tmp_path / name if name else None for name in which]
    with pytest.raises(CannotSecure, match=why):
        required(host, files[0], files[1], files[2])


@pytest.mark.parametrize(("ends_in", "why"), [(-60, "expired on "), (7260, "is not valid before ")])
def test_a_certificate_out_of_its_time_is_refused_with_the_date(tmp_path: Path, ends_in: int, why: str) -> None:
    """Before anything is started: nothing could connect to the broker, and `up` would wait for ever."""
    certificate, key = authority(tmp_path).sign("broker", ends_in)
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ends_in if ends_in < 0 else ends_in - 7200)
    with pytest.raises(CannotSecure, match=rf"{certificate} {why}{when:%Y-%m-%d %H}:\d\d UTC"):
        required("127.0.0.1", certificate, key, None)


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    """The service's own connections present it: the broker would refuse them, and `up` would wait for ever."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = authority(tmp_path / "ours"), authority(tmp_path / "theirs")
    certificate, key = ours.sign("broker")
    both = tmp_path / "both.pem"
    both.write_bytes(theirs.certificate.read_bytes() + ours.certificate.read_bytes())
    for trusted in (ours.certificate, both, certificate, None):
        secured = required("127.0.0.1", certificate, key, trusted)
        assert secured is not None
        secured.require_own_authority()
    command: list[str | Path] = [HEIRLOOM, "up", "--data", tmp_path / "data", "--port", "0"]
    command += ["--tls-cert", certificate, "--tls-key", key, "--tls-ca", theirs.certificate]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert f"the authority in {theirs.certificate} does not vouch for {certificate}" in done.stderr
    assert not (tmp_path / "data").exists()


def test_loopback_needs_no_certificate() -> None:
    """Nobody else can listen there."""
    assert required("127.0.0.1", None, None, None) is None and required("localhost", None, None, None) is None


async def _connect(url: str, context: ssl.SSLContext) -> Client:
    return await nats.connect(
        url, tls=context, inbox_prefix="_INBOX.acme.web", max_reconnect_attempts=0, allow_reconnect=False
    )


def _url(service: Service, *who: str) -> str:
    command = [str(HEIRLOOM), "url", "--data", str(service.data), *who]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert told.returncode == 0, told
    return told.stdout.strip()
