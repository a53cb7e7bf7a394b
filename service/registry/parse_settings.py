"""Parsing settings as people write them: all of them are checked, and every fault is named (CONTRACT §4)."""

import difflib
import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from events import strict_json
from events.aggregates.aggregate_names import CLIENT_ID
from events.aggregates.settings import TOKEN_EXCHANGE, ClientSettings, Policy, TenantSettings
from events.visible_text import LOOKS_LIKE_A_TOKEN, has_controls, holds_token, unknown_name
from service.decide.device_authorization import MAX_WAITING_OF_TENANT
from service.decide.policy import ANY, Rules, resolve
from service.decide.scope import is_audience, parse_scope
from service.errors import OAuthError
from service.keys.client_keys import fault_of
from service.uri import page_fault, redirect_fault

P = TypeVar("P", bound=Policy)

TEN_YEARS = 315_360_000
MAX_RATE = 1_000_000
MAX_CONNECTIONS_OF_CLIENT = 10_000
"""Of one client; the broker accepts 65,536 in all."""
MAX_ISSUER_CHARACTERS = 512
MAX_AUDIENCES = 64
MAX_CLIENTS = 64
_ITEM = re.compile(r"^\[(\d+)\]")
NO_REDIRECT_URIS = (
    "redirect_uris: a public client with authorization_code must register some (RFC 6749 section 3.1.2.2)"
)


def parse(kind: type[P], given: dict[str, Any]) -> P:
    """Parse settings. Raises `invalid_request` naming every unknown name, wrong type and impossible value."""
    faults: list[str] = []
    hints = get_type_hints(kind)
    known: dict[str, Any] = {}
    for name, value in given.items():
        if name not in kind.__struct_fields__:
            faults.append(f"{unknown_name(name)}: unknown setting{_meant(name, kind.__struct_fields__)}")
            continue
        try:
            known[name] = msgspec.convert(value, hints[name])
        except msgspec.ValidationError as error:
            faults.append(f"{name}: {_fault(error, value, hints[name])}")
            continue
        if holds_token(str(value)):
            faults.append(f"{name}: {LOOKS_LIKE_A_TOKEN}")
            continue
        if (check := _CHECKS.get(name)) is not None and known[name] is not None and (fault := check(known[name])):
            faults.append(f"{name}: {fault}")
    if faults:
        raise OAuthError("invalid_request", "; ".join(faults))
    return kind(**known)


def _fault(error: msgspec.ValidationError, value: Any, hint: Any) -> str:
    """Why a value cannot be converted; for an unknown value, with the known ones."""
    known = _choices(hint)
    given = value if isinstance(value, list | tuple) else (value,)
    unknown = [one for one in given if isinstance(one, str) and one not in known]
    if known and unknown and str(error).startswith("Invalid enum value"):
        return f"unknown value {unknown_name(unknown[0])}{_meant(unknown[0], known)}; known are {', '.join(known)}"
    return _ITEM.sub(lambda place: f"item {int(place[1]) + 1}", strict_json.reason(error, "")).strip()


def _choices(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next((found for part in get_args(hint) if (found := _choices(part))), ())


def _meant(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f", did you mean {near[0]}?" if near else ""


def _duration(least: int) -> Callable[[int], str | None]:
    def check(seconds: int) -> str | None:
        return None if least <= seconds <= TEN_YEARS else f"must be {least} to {TEN_YEARS} seconds"

    return check


def _rate(rate: int) -> str | None:
    return None if 1 <= rate <= MAX_RATE else f"must be 1 to {MAX_RATE} a second"


def _bound(most: int) -> Callable[[int], str | None]:
    def check(count: int) -> str | None:
        return None if 1 <= count <= most else f"must be 1 to {most}"

    return check


def _scope(scope: str) -> str | None:
    try:
        parse_scope(scope)
    except OAuthError as error:
        return error.description
    return None


def _redirect_uris(uris: tuple[str, ...]) -> str | None:
    return next((fault for uri in uris if (fault := redirect_fault(uri)) is not None), None)


def _issuer(issuer: str) -> str | None:
    if len(issuer) > MAX_ISSUER_CHARACTERS:
        return f"must have at most {MAX_ISSUER_CHARACTERS} characters"
    return page_fault(issuer)


def _audiences(audiences: tuple[str, ...]) -> str | None:
    if len(audiences) > MAX_AUDIENCES or not all(is_audience(name) for name in audiences):
        return f"must be at most {MAX_AUDIENCES} resources (RFC 8707) or names (RFC 8693 section 2.1), or {ANY} for any"
    return None


def _clients(names: tuple[str, ...]) -> str | None:
    if len(names) > MAX_CLIENTS or not all(CLIENT_ID.fullmatch(name) for name in names):
        return f"must name at most {MAX_CLIENTS} clients"
    return None


def _acr(values: tuple[str, ...]) -> str | None:
    if not values or not all(0 < len(value) <= 255 for value in values):
        return "must name at least one acr"
    return "must be without control characters" if any(map(has_controls, values)) else None


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "scope": _scope,
    "access_token_ttl": _duration(1),
    "refresh_token_ttl": _duration(0),
    "refresh_token_idle_ttl": _duration(0),
    "refresh_token_grace": _duration(0),
    "redirect_uris": _redirect_uris,
    "issuer": _issuer,
    "verification_uri": page_fault,
    "audiences": _audiences,
    "may_exchange": _clients,
    "jwks": fault_of,
    "required_acr": _acr,
    "requests_per_second": _rate,
    "family_requests_per_second": _rate,
    "max_connections": _bound(MAX_CONNECTIONS_OF_CLIENT),
    "max_pending_devices": _bound(MAX_WAITING_OF_TENANT),
}


def for_client(given: dict[str, Any], tenant: TenantSettings) -> ClientSettings:
    """Parse a client's settings, and check the combinations that its tenant's defaults result in.

    Raises `invalid_request`.
    """
    settings = parse(ClientSettings, given)
    rules = resolve(tenant, settings)
    if rules.token_endpoint_auth_method == "none" and settings.refresh_token_rotation == "reuse":
        # a copy of a public client's refresh token is enough to use it (RFC 9700 §4.14.2)
        raise OAuthError("invalid_request", "refresh_token_rotation: a public client's refresh tokens must rotate")
    if rules.token_endpoint_auth_method == "private_key_jwt" and rules.jwks is None:
        raise OAuthError("invalid_request", "jwks: a client with private_key_jwt proves itself by its keys (RFC 7523)")
    _no_exchange_without_proof(rules)
    if rules.gives_codes_to_anybody:
        raise OAuthError("invalid_request", NO_REDIRECT_URIS)
    return settings


def for_tenant(given: dict[str, Any]) -> TenantSettings:
    """Parse a tenant's settings, and check their combinations. Raises `invalid_request`."""
    settings = parse(TenantSettings, given)
    _no_exchange_without_proof(resolve(settings, ClientSettings()))
    return settings


def _no_exchange_without_proof(rules: Rules) -> None:
    """Raises `invalid_request` for token exchange by a public client: a stolen token would be enough (RFC 8693 §5)."""
    if rules.token_endpoint_auth_method == "none" and TOKEN_EXCHANGE in rules.grant_types:
        raise OAuthError("invalid_request", "grant_types: a public client cannot exchange tokens, it proves nothing")
