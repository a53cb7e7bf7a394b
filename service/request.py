"""A request as it comes over the bus: who asks, and the parameters, strictly decoded (CONTRACT §2)."""

import json
import re
from typing import Any, NamedTuple, TypeVar

import msgspec

from service.errors import OAuthError

T = TypeVar("T")

MAX_BODY = 16 * 1024
_any_decoder = msgspec.json.Decoder(dict[str, Any])
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Request(NamedTuple):
    """`client_id` is who asks: proved by the subject, which the broker's permissions vouch for, or by the request."""

    tenant: str
    client_id: str
    body: bytes
    headers: dict[str, str]

    @property
    def actor(self) -> str:
        """Who this is, in the log's words."""
        return f"client:{self.client_id}"


class _DuplicateError(ValueError):
    pass


class Checked(bytes):
    """A body that `check` has passed: `decode` does not look for keys given twice again."""


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The parameters. Raises `invalid_request` for anything but one JSON object with each key once and right types."""
    if not isinstance(body, Checked):
        check(body)
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise OAuthError("invalid_request", str(error)) from error


def check(body: bytes) -> dict[str, Any]:
    """All parameters, of whatever type. Raises `invalid_request` for all but one JSON object with each key once."""
    if len(body) > MAX_BODY:
        raise OAuthError("invalid_request", f"the request is larger than {MAX_BODY // 1024} KiB")
    try:
        parameters = _any_decoder.decode(body)
        if not _surely_without_duplicates(body, parameters):
            json.loads(body, object_pairs_hook=_no_duplicates)
    except msgspec.ValidationError as error:
        raise OAuthError("invalid_request", str(error)) from error
    except _DuplicateError as error:
        raise OAuthError("invalid_request", "a parameter is given twice") from error
    except (ValueError, RecursionError) as error:
        raise OAuthError("invalid_request", "the request is not a JSON object") from error
    return parameters


def idempotency_key(headers: dict[str, str]) -> str | None:
    """The `Idempotency-Key`, or None. Raises `invalid_request` for one that is too long or not visible ASCII."""
    for name, value in headers.items():
        if name.lower() == "idempotency-key":
            if not _IDEMPOTENCY_KEY.fullmatch(value):
                raise OAuthError("invalid_request", "Idempotency-Key must be 1 to 255 visible ASCII characters")
            return value
    return None


def required(value: str | None, name: str) -> str:
    """The parameter's value. Raises `invalid_request` when it is missing or empty."""
    if not value:
        raise OAuthError("invalid_request", f"the parameter {name} is missing")
    return value


def at_most(value: str | None, limit: int, name: str) -> str | None:
    """The value. Raises `invalid_request` when it is longer than `limit` characters."""
    if value is not None and len(value) > limit:
        raise OAuthError("invalid_request", f"the parameter {name} is longer than {limit} characters")
    return value


def _surely_without_duplicates(body: bytes, parameters: dict[str, Any]) -> bool:
    """Quickly, whether no key is given twice; False for "look closely".

    msgspec takes the last of two equal keys; where two readers disagree on a request, an attacker chooses. Without
    escapes, a body has one colon for each key and those inside its strings: any more betray a key that was dropped.
    """
    if b"\\" in body:
        return False
    colons = len(parameters)
    for name, value in parameters.items():
        if not isinstance(value, str):
            return False
        colons += name.count(":") + value.count(":")
    return body.count(b":") == colons


def _no_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _DuplicateError
