"""URIs by the grammar of RFC 3986, parsed and never normalised.

The standard library's parser drops tabs and line ends, lowers the host's case and ignores an empty query or fragment:
its result is another URI than the registered one. Here a text either is a URI, to the letter, or is none.
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
"""Browsers take a name whose last label is a number for an IPv4 address, or refuse it."""
_MAX_NAME = 253
_LOOPBACK_ADDRESSES = ("127.0.0.1", "[::1]")
_LOOPBACK = (*_LOOPBACK_ADDRESSES, "localhost")
MAX_URI_CHARACTERS = 2048


class Uri(NamedTuple):
    """The parts of a URI as they are written. None is a part that is absent; an empty part is there."""

    scheme: str
    userinfo: str | None
    host: str | None
    port: str | None
    path: str
    query: str | None
    fragment: str | None

    @property
    def is_web(self) -> bool:
        """Whether it is `https` with a host and without a user, or `http` on the loopback (RFC 8252 §8.3)."""
        if not _is_host(self.host) or self.userinfo is not None or not _is_port(self.port):
            return False
        return self.scheme == "https" or (self.scheme == "http" and self.host in _LOOPBACK)

    @property
    def is_private_use(self) -> bool:
        """Whether the scheme is an app's own: a domain name in reverse, so with a dot (RFC 8252 §7.1)."""
        return "." in self.scheme.strip(".") and self.userinfo is None and bool(self.host or self.path.strip("/"))

    def is_same_loopback(self, registered: "Uri") -> bool:
        """Whether both are the same loopback address but for the port (RFC 8252 §7.3)."""
        on_loopback = registered.scheme == "http" and registered.host in _LOOPBACK_ADDRESSES
        return on_loopback and self.is_web and self._replace(port=None) == registered._replace(port=None)


def parse(text: str) -> Uri | None:
    """The parts of an absolute URI (RFC 3986 §3); None for another text, or one beyond `MAX_URI_CHARACTERS`."""
    found = _URI.fullmatch(text) if len(text) <= MAX_URI_CHARACTERS else None
    if found is None:
        return None
    uri = Uri(**found.groupdict())
    if uri.host is not None and uri.host.startswith("[") and not _is_address(IPv6Address, uri.host[1:-1]):
        return None
    # without a host, a path that begins with // would be read as a host (RFC 3986 §3.3)
    if uri.host is None and (uri.path.startswith("//") or not uri.path):
        return None
    return None if uri.host is not None and uri.path and not uri.path.startswith("/") else uri


def redirect_fault(text: str) -> str | None:
    """The reason why the text cannot be a redirect URI (RFC 6749 §3.1.2, RFC 8252 §7), or None."""
    uri = parse(text)
    if uri is None or uri.fragment is not None:
        return "each must be an absolute URI without a fragment (RFC 6749 section 3.1.2)"
    if uri.is_web or uri.is_private_use:  # javascript, data, file and blob have no dot
        return None
    return (
        "each must be https with a host and no user, http on the loopback, or an app's own scheme with a dot,"
        " as com.example.app:/callback (RFC 8252 section 7)"
    )


def page_fault(text: str) -> str | None:
    """The reason why the text cannot be an issuer or a page of one (RFC 8414 §2, RFC 8628 §3.2), or None."""
    uri = parse(text)
    if uri is None or not uri.is_web or uri.query is not None or uri.fragment is not None:
        return "must be an https URL with a host, without user, query and fragment; http is only for the loopback"
    return None


def is_resource(text: str) -> bool:
    """Whether the text is an absolute URI without a fragment (RFC 8707 §2)."""
    uri = parse(text)
    return uri is not None and uri.fragment is None and bool(uri.host or uri.path)


def _is_host(host: str | None) -> bool:
    """Whether it is an IPv4 address, a DNS name (RFC 1123 §2.1), or in brackets, which `parse` has checked."""
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
