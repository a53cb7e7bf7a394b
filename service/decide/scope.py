"""Scopes (RFC 6749 §3.3) and resource indicators (RFC 8707)."""

import re
from functools import lru_cache

from service.decide.policy import ANY
from service.errors import OAuthError
from service.request import check_text
from service.uri import is_resource

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")
MAX_SCOPE_CHARACTERS = 2048
MAX_RESOURCES = 16
MAX_RESOURCE_CHARACTERS = 512
OFFLINE_ACCESS = "offline_access"
OPENID = "openid"
REGISTERED = "the client is registered for"


def parse_scope(scope: str) -> tuple[str, ...]:
    """The scope's values in their order, each once. Raises `invalid_scope` for what RFC 6749 §3.3 does not allow."""
    if not scope:
        return ()
    if len(scope) > MAX_SCOPE_CHARACTERS or not _SCOPE.fullmatch(scope):
        raise OAuthError("invalid_scope", "scope must be a list of space-delimited tokens (RFC 6749 section 3.3)")
    return tuple(dict.fromkeys(scope.split(" ")))


def narrow(requested: str | None, allowed: str, limit: str = "was granted") -> str:
    """The requested scope if all of it is allowed; the allowed scope if none is requested.

    Raises `invalid_scope`, whose description ends with `limit`: where the allowed scope comes from.
    """
    if not requested or requested == allowed:
        return allowed
    values = parse_scope(requested)
    if not set(allowed.split(" ")).issuperset(values):
        raise OAuthError("invalid_scope", f"the scope asks for more than {limit}")
    return " ".join(values)


@lru_cache(maxsize=4096)
def still(granted: str, registered: str) -> str:
    """The part of a granted scope for which the client is registered today (RFC 7591 §2)."""
    if granted == registered:
        return granted
    known = set(registered.split(" "))
    return " ".join(value for value in granted.split(" ") if value in known)


def parse_resources(resource: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The resources in their order, each once; None if none is named.

    Raises `invalid_target` (RFC 8707 §2), and `invalid_request` for a token in the place of a resource.
    """
    if resource is None:
        return None
    resources = (resource,) if isinstance(resource, str) else tuple(dict.fromkeys(resource))
    if not 1 <= len(resources) <= MAX_RESOURCES:
        raise OAuthError("invalid_target", f"resource names between 1 and {MAX_RESOURCES} targets")
    if not all(len(uri) <= MAX_RESOURCE_CHARACTERS and is_resource(uri) for uri in resources):
        raise OAuthError("invalid_target", "resource must be an absolute URI without a fragment (RFC 8707 section 2)")
    for uri in resources:
        check_text(uri, "resource")
    return resources


def audience_of(resource: str | tuple[str, ...] | None, audiences: tuple[str, ...]) -> tuple[str, ...]:
    """A grant's audience: the named resources, or the issuer if none is named.

    `audiences` are those that the client's tokens may have, the issuer first. Raises `invalid_target`.
    """
    resources = parse_resources(resource)
    if resources is None:
        return audiences[:1]
    check_audience(resources, audiences)
    return resources


def check_audience(wanted: tuple[str, ...], audiences: tuple[str, ...]) -> None:
    """Raises `invalid_target` for an audience that the client's tokens may not have (RFC 8707 §2)."""
    if ANY not in audiences and not set(audiences).issuperset(wanted):
        raise OAuthError("invalid_target", "the client may have no token for that; an operator sets audiences")


def narrow_resources(
    requested: tuple[str, ...] | None, granted: tuple[str, ...], audiences: tuple[str, ...]
) -> tuple[str, ...]:
    """The requested resources if all of them were granted; the granted ones if none is named.

    Only those count that the client's tokens may have today (`audiences`). Raises `invalid_target`.
    """
    left = allowed_of(granted, audiences)
    if not left:
        raise OAuthError("invalid_target", "the client may have no token any more for what was granted")
    if requested is None:
        return left
    if not set(left).issuperset(requested):
        raise OAuthError("invalid_target", "the resource is outside of what was granted")
    return requested


def allowed_of(granted: tuple[str, ...], audiences: tuple[str, ...]) -> tuple[str, ...]:
    """The part of the granted audience that the client's tokens may have today (`audiences`)."""
    return granted if ANY in audiences else tuple(name for name in granted if name in audiences)


def is_audience(name: str) -> bool:
    """Whether the name may stand in an `aud` (RFC 8693 §2.1 `audience`), or in a client's `audiences`."""
    return 0 < len(name) <= MAX_RESOURCE_CHARACTERS and name.isprintable()
