"""A request: its tenant and client, and its parameters, strictly decoded (CONTRACT §2)."""

import re
from typing import Any, NamedTuple, TypeVar

import msgspec

from events import strict_json
from events.visible_text import LOOKS_LIKE_A_TOKEN, has_controls, holds_token
from service.errors import OAuthError, invalid_client

T = TypeVar("T")
P = TypeVar("P", bound=msgspec.Struct)

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Request(NamedTuple):
    """A request of the client `client_id`, which the subject or the request's own authentication has proved.

    `by_person`: it came on a connection that a person's token has opened, so not from the client itself.
    """

    tenant: str
    client_id: str
    body: bytes
    headers: dict[str, str]
    by_person: bool = False


class Checked(bytes):
    """A body that has passed `check`: `decode` does not check it again."""


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The parameters. Raises `invalid_request` unless it is one JSON object with each key once and right types."""
    try:
        if not isinstance(body, Checked):
            strict_json.check(body)
        return strict_json.decode(body, decoder)
    except strict_json.Malformed as malformed:
        raise OAuthError("invalid_request", str(malformed)) from malformed


def parameters_of(request: Request, decoder: msgspec.json.Decoder[P], *, client_id_is_anothers: bool = False) -> P:
    """The parameters as by `decode`; one without a value counts as left out (RFC 6749 §3.1, §3.2).

    Raises `invalid_client` where the parameter `client_id` names another client than the caller (RFC 6749 §3.2.1),
    unless `client_id_is_anothers`.
    """
    found = decode(request.body, decoder)
    if b'""' in request.body:
        found = msgspec.structs.replace(
            found, **{name: None for name in found.__struct_fields__ if getattr(found, name) == ""}
        )
    if not client_id_is_anothers and getattr(found, "client_id", None) not in (None, request.client_id):
        raise invalid_client()
    return found


def check(body: bytes) -> dict[str, Any]:
    """The parameters, of any type. Raises `invalid_request` unless the body is one JSON object with each key once."""
    try:
        return strict_json.check(body)
    except strict_json.Malformed as malformed:
        raise OAuthError("invalid_request", str(malformed)) from malformed


def idempotency_key(headers: dict[str, str]) -> str | None:
    """The `Idempotency-Key`, or None. Raises `invalid_request` for one that is too long or not visible ASCII."""
    for name, value in headers.items():
        if name.lower() == "idempotency-key":
            if not IDEMPOTENCY_KEY.fullmatch(value):
                raise OAuthError("invalid_request", "Idempotency-Key must be 1 to 255 visible ASCII characters")
            return value
    return None


def required(value: str | None, name: str) -> str:
    """The parameter's value. Raises `invalid_request` when it is missing or empty."""
    if not value:
        raise OAuthError("invalid_request", f"the parameter {name} is missing")
    return value


def at_most(value: str | None, limit: int, name: str) -> str | None:
    """The value. Raises `invalid_request` when it is longer than `limit` characters, or `check_text` refuses it."""
    if value is not None and len(value) > limit:
        raise OAuthError("invalid_request", f"the parameter {name} is longer than {limit} characters")
    return None if value is None else check_text(value, name)


def check_text(value: str, name: str) -> str:
    """The value. Raises `invalid_request` for one with a control character, or with a token in it.

    The value will be in the log, and be shown on terminals.
    """
    if has_controls(value):
        raise OAuthError("invalid_request", f"the parameter {name} has a control character")
    if holds_token(value):
        raise OAuthError("invalid_request", f"the parameter {name} {LOOKS_LIKE_A_TOKEN}")
    return value
