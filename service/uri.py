"""URIs as RFC 3986 writes them, taken apart and never cleaned.

The standard library's parser drops tabs and line ends, lowers the host's case and forgets an empty query or fragment:
what it gives is another URI than the one that was registered. Here a text either is a URI, to the letter, or is none.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

_HEX = r"%[0-9A-Fa-f]{2}"
_CHARACTER = rf"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|{_HEX})"
_HOST = rf"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|{_HEX})*)"
_USER = rf"(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|{_HEX})*"
_URI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):"
    rf"(?://(?:(?P<userinfo>{_USER})@)?(?P<host>{_HOST})(?::(?P<port>[0-9]*))?(?=[/?#]|\Z))?"
    rf"(?P<path>(?:{_CHARACTER}|/)*)"
    rf"(?:\?(?P<query>(?:{_CHARACTER}|[/?])*))?"
    rf"(?:#(?P<fragment>(?:{_CHARACTER}|[/?])*))?"
)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0[Xx][0-9A-Fa-f]*")
"""A name that ends in one is an IPv4 address for a browser, or nothing."""
_MAX_NAME = 253
_LOOPBACK_ADDRESSES = ("127.0.0.1", "[::1]")
_LOOPBACK = (*_LOOPBACK_ADDRESSES, "localhost")
MAX_URI = 2048


class Uri(NamedTuple):
    """Its parts as they are written. None is "not there", which an empty part is not."""

    scheme: str
    userinfo: str | None
    host: str | None
    port: str | None
    path: str
    query: str | None
    fragment: str | None

    @property
    def is_web(self) -> bool:
        """`https` with a host and nobody's name before it, or `http` on this machine (RFC 8252 §8.3)."""
        if not _is_host(self.host) or self.userinfo is not None or not _is_port(self.port):
            return False
        return self.scheme == "https" or (self.scheme == "http" and self.host in _LOOPBACK)

    @property
    def is_private_use(self) -> bool:
        """An app's own scheme: the reverse of a domain name it has, so there is a dot (RFC 8252 §7.1)."""
        return "." in self.scheme.strip(".") and self.userinfo is None and bool(self.host or self.path.strip("/"))

    def is_same_loopback(self, registered: "Uri") -> bool:
        """The registered one but for its port: an app listens where it can (RFC 8252 §7.3)."""
        on_loopback = registered.scheme == "http" and registered.host in _LOOPBACK_ADDRESSES
        return on_loopback and self.is_web and self._replace(port=None) == registered._replace(port=None)


def parse(text: str) -> Uri | None:
    """The parts of an absolute URI (RFC 3986 §3); None for whatever is not one, or is longer than `MAX_URI`."""
    found = _URI.fullmatch(text) if len(text) <= MAX_URI else None
    if found is None:
        return None
    uri = Uri(**found.groupdict())
    if uri.host is not None and uri.host.startswith("[") and not _is_address(IPv6Address, uri.host[1:-1]):
        return None
    # without a host a path beginning with // would be another URI's host (RFC 3986 §3.3)
    if uri.host is None and (uri.path.startswith("//") or not uri.path):
        return None
    return None if uri.host is not None and uri.path and not uri.path.startswith("/") else uri


def redirect_fault(text: str) -> str | None:
    """Why this cannot be a redirect URI (RFC 6749 §3.1.2, RFC 8252 §7), or None."""
    uri = parse(text)
    if uri is None or uri.fragment is not None:
        return "each must be an absolute URI without a fragment (RFC 6749 section 3.1.2)"
    if uri.is_web or uri.is_private_use:  # so no javascript, data, file, blob: these have no dot
        return None
    return (
        "each must be https with a host and no user, http on the loopback, or an app's own scheme with a dot,"
        " as com.example.app:/callback (RFC 8252 section 7)"
    )


def page_fault(text: str) -> str | None:
    """Why this cannot be an issuer, or a page of one, or None (RFC 8414 §2, RFC 8628 §3.2)."""
    uri = parse(text)
    if uri is None or not uri.is_web or uri.query is not None or uri.fragment is not None:
        return "must be an https URL with a host, without user, query and fragment; http is only for the loopback"
    return None


def is_resource(text: str) -> bool:
    """Whether it is an absolute URI without a fragment (RFC 8707 §2)."""
    uri = parse(text)
    return uri is not None and uri.fragment is None and bool(uri.host or uri.path)


def _is_host(host: str | None) -> bool:
    """An address in brackets, which `parse` has seen, an IPv4 address, or a name in the DNS (RFC 1123 §2.1)."""
    if not host or host.startswith("["):
        return bool(host)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _is_address(IPv4Address, host)
    return len(host) <= _MAX_NAME and all(map(_LABEL.fullmatch, labels))


def _is_address(kind: type[IPv4Address] | type[IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return True


def _is_port(port: str | None) -> bool:
    return port is None or (port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535)
