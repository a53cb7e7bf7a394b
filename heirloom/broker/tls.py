"""TLS on the embedded broker: its certificate, and the certificates that it requires."""

import contextlib
import ipaddress
import os
import ssl
from pathlib import Path
from typing import NamedTuple

from events.bus.connect import PINNED_CERTIFICATE, SHOWN_KEY
from heirloom.broker.quoted import quoted
from service import clock


class CannotSecure(Exception):
    """One line for a person: what is wrong with the certificate, or why there must be one."""


class Tls(NamedTuple):
    """Paths of PEM files. With `ca`, every connection must present a certificate of that authority, too."""

    certificate: str
    key: str
    ca: str | None = None

    def configuration(self) -> str:
        """The setting in the broker's notation."""
        clients = f"ca_file: {quoted(self.ca)}, verify: true, " if self.ca is not None else ""
        return f"tls {{ cert_file: {quoted(self.certificate)}, key_file: {quoted(self.key)}, {clients}timeout: 3 }}\n"

    def require_own_authority(self) -> None:
        """Check that our own connections, which present this certificate, would be accepted under `ca`.

        Otherwise the broker would start and refuse us all. Raises `CannotSecure`.
        """
        if self.ca is None:
            return
        asking, showing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        asking.load_verify_locations(self.ca)
        asking.verify_mode, asking.verify_flags = ssl.CERT_REQUIRED, asking.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN
        showing.check_hostname, showing.verify_mode = False, ssl.CERT_NONE
        for context in (asking, showing):
            context.load_cert_chain(self.certificate, self.key)
        to_asking, to_showing = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = showing.wrap_bio(to_showing, to_asking), asking.wrap_bio(to_asking, to_showing, server_side=True)
        try:
            for end in ends * 2:  # each sends twice
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise CannotSecure(
                f"the authority in {self.ca} does not vouch for {self.certificate}, which our own connections show:"
                f" {error.verify_message}; give --tls-ca the one that has signed it, or a file with both"
            ) from error

    def pin(self) -> None:
        """Let this process, and those it starts, trust exactly this certificate, and present it where required.

        They share a machine and a data directory with the broker, so no name or authority is needed.
        """
        os.environ[PINNED_CERTIFICATE] = self.certificate
        if self.ca is not None:
            os.environ[SHOWN_KEY] = self.key


def required(
    host: str, certificate: Path | None, key: Path | None, ca: Path | None, otherwise: str = "leave --host at 127.0.0.1"
) -> Tls | None:
    """The TLS of a broker on that address. Raises `CannotSecure`, also for plaintext that others could listen to.

    `otherwise` is what else a person may do then.
    """
    if certificate is None or key is None:
        if certificate is not None or key is not None or ca is not None:
            raise CannotSecure("--tls-cert and --tls-key belong together, and --tls-ca to both")
        if not is_loopback(host):
            raise CannotSecure(
                f"on {host} passwords and tokens would cross the network in the clear: "
                f"give --tls-cert and --tls-key, or {otherwise}"
            )
        return None
    for path in filter(None, (certificate, key, ca)):
        if not path.is_file():
            raise CannotSecure(f"there is no file {path}")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if ca is not None:
            context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise CannotSecure(f"{certificate}, {key}: not a certificate and its key in PEM ({reason})") from error
    for path in filter(None, (certificate, ca)):
        _check_dates(path)
    return Tls(str(certificate.resolve()), str(key.resolve()), str(ca.resolve()) if ca is not None else None)


def _check_dates(path: Path) -> None:
    """Refuse a certificate outside of its dates, which every connection would reject. Raises `CannotSecure`."""
    from cryptography import x509  # it takes a while to import, so only users of certificates pay for it

    now = clock.now()
    for certificate in x509.load_pem_x509_certificates(path.read_bytes()):
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > end:
            raise CannotSecure(f"the certificate in {path} expired on {end:%Y-%m-%d %H:%M} UTC; renew it")
        if now < begin:
            raise CannotSecure(f"the certificate in {path} is not valid before {begin:%Y-%m-%d %H:%M} UTC")


def is_loopback(host: str) -> bool:
    """Whether the host can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
