"""Settings as people write them: checked as a whole, every fault named (CONTRACT §4)."""

import difflib
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints
from urllib.parse import SplitResult, urlsplit

import msgspec

from events import strict
from events.settings import ClientSettings, Policy, TenantSettings
from service.errors import OAuthError
from service.policy import resolve
from service.scope import parse_scope

P = TypeVar("P", bound=Policy)

TEN_YEARS = 315_360_000
FASTEST = 1_000_000


def parse(kind: type[P], given: dict[str, Any]) -> P:
    """The settings. Raises `invalid_request` naming every unknown name, wrong type and impossible value."""
    faults: list[str] = []
    hints = get_type_hints(kind)
    known: dict[str, Any] = {}
    for name, value in given.items():
        if name not in kind.__struct_fields__:
            faults.append(f"{name}: unknown setting{_meant(name, kind.__struct_fields__)}")
            continue
        try:
            known[name] = msgspec.convert(value, hints[name])
        except msgspec.ValidationError as error:
            faults.append(f"{name}: {strict.reason(error)}")
            continue
        if (check := _CHECKS.get(name)) is not None and known[name] is not None and (fault := check(known[name])):
            faults.append(f"{name}: {fault}")
    if faults:
        raise OAuthError("invalid_request", "; ".join(faults))
    return kind(**known)


def _meant(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f", did you mean {near[0]}?" if near else ""


def _duration(least: int) -> Callable[[int], str | None]:
    def check(seconds: int) -> str | None:
        return None if least <= seconds <= TEN_YEARS else f"must be {least} to {TEN_YEARS} seconds"

    return check


def _rate(rate: int) -> str | None:
    return None if 1 <= rate <= FASTEST else f"must be 1 to {FASTEST} a second"


def _scope(scope: str) -> str | None:
    try:
        parse_scope(scope)
    except OAuthError as error:
        return error.description
    return None


def _redirect_uris(uris: tuple[str, ...]) -> str | None:
    for uri in uris:
        parts = _split(uri)
        if parts is None or not parts.scheme or parts.fragment or len(uri) > 2048:
            return "each must be an absolute URI without a fragment (RFC 6749 §3.1.2)"
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            return "http is only for loopback (RFC 8252 §7.3)"
    return None


def _split(uri: str) -> SplitResult | None:
    try:
        return urlsplit(uri)
    except ValueError:
        return None


def _issuer(issuer: str) -> str | None:
    parts = _split(issuer)
    if (
        parts is None
        or parts.scheme not in ("https", "http", "urn")
        or parts.query
        or parts.fragment
        or len(issuer) > 512
    ):
        return "must be a URL without query and fragment (RFC 8414 §2)"
    return None


def _jwks(jwks: dict[str, Any]) -> str | None:
    from joserfc.errors import JoseError  # a tenth of what a process that only reads settings would have to import
    from joserfc.jwk import KeySet

    try:
        keys = KeySet.import_key_set(jwks)  # type: ignore[arg-type]  # it checks the shape itself
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return "is not a JWK Set (RFC 7517 §5)"
    if any(key.is_private or key.key_type == "oct" for key in keys.keys):
        return "must hold public keys only"
    return None


def _acr(values: tuple[str, ...]) -> str | None:
    return None if values and all(0 < len(value) <= 255 for value in values) else "must name at least one acr"


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "scope": _scope,
    "access_token_ttl": _duration(1),
    "refresh_token_ttl": _duration(0),
    "refresh_token_idle_ttl": _duration(0),
    "refresh_token_grace": _duration(0),
    "redirect_uris": _redirect_uris,
    "issuer": _issuer,
    "jwks": _jwks,
    "required_acr": _acr,
    "requests_per_second": _rate,
    "family_requests_per_second": _rate,
}


def for_client(given: dict[str, Any], tenant: TenantSettings) -> ClientSettings:
    """A client's settings; `parse` for clients. A public client cannot keep its refresh token (RFC 9700 §4.14.2)."""
    settings = parse(ClientSettings, given)
    public = resolve(tenant, settings).token_endpoint_auth_method == "none"
    if public and settings.refresh_token_rotation == "reuse":
        raise OAuthError("invalid_request", "refresh_token_rotation: a public client's refresh tokens must rotate")
    return settings
