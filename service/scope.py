"""Scopes (RFC 6749 §3.3) and resource indicators (RFC 8707)."""

import re
from urllib.parse import urlsplit

from service.errors import OAuthError

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")
MAX_SCOPE = 2048
MAX_RESOURCES = 16
MAX_RESOURCE = 512
OFFLINE_ACCESS = "offline_access"
OPENID = "openid"
REGISTERED = "the client is registered for"


def parse_scope(scope: str) -> tuple[str, ...]:
    """The scope's values in their order, each once. Raises `invalid_scope` for what RFC 6749 §3.3 does not allow."""
    if not scope:
        return ()
    if len(scope) > MAX_SCOPE or not _SCOPE.fullmatch(scope):
        raise OAuthError("invalid_scope", "scope must be a list of space-delimited tokens (RFC 6749 §3.3)")
    return tuple(dict.fromkeys(scope.split(" ")))


def narrow(requested: str | None, allowed: str, limit: str = "was granted") -> str:
    """The requested scope if all of it is allowed; what is allowed when none is requested.

    Raises `invalid_scope`; the `limit` says there where what is allowed comes from.
    """
    if not requested or requested == allowed:
        return allowed
    values = parse_scope(requested)
    if not set(allowed.split(" ")).issuperset(values):
        raise OAuthError("invalid_scope", f"the scope asks for more than {limit}")
    return " ".join(values)


def parse_resources(resource: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The resources in their order, each once; None when none is named. Raises `invalid_target` (RFC 8707 §2)."""
    if resource is None:
        return None
    resources = (resource,) if isinstance(resource, str) else tuple(dict.fromkeys(resource))
    if not 1 <= len(resources) <= MAX_RESOURCES:
        raise OAuthError("invalid_target", f"resource names between 1 and {MAX_RESOURCES} targets")
    for uri in resources:
        if not _is_resource(uri):
            raise OAuthError("invalid_target", "resource must be an absolute URI without a fragment (RFC 8707 §2)")
    return resources


def narrow_resources(requested: tuple[str, ...] | None, granted: tuple[str, ...]) -> tuple[str, ...]:
    """The requested resources if all were granted; what was granted when none is named. Raises `invalid_target`."""
    if requested is None:
        return granted
    if not set(granted).issuperset(requested):
        raise OAuthError("invalid_target", "the resource is outside of what was granted")
    return requested


def _is_resource(uri: str) -> bool:
    if len(uri) > MAX_RESOURCE or not uri.isascii() or not uri.isprintable() or " " in uri:
        return False
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return bool(parts.scheme) and bool(parts.netloc or parts.path) and "#" not in uri
