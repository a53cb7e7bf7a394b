"""Every error code a caller may see, once, with the status it is told with (CONTRACT §2)."""

import re
from typing import Literal, TypeAlias

import msgspec

Code: TypeAlias = Literal[
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
    "authorization_pending",
    "slow_down",
    "expired_token",
    "unsupported_token_type",
    "temporarily_unavailable",
    "server_error",
]

_STATUS: dict[Code, str] = {
    "invalid_client": "401",
    "temporarily_unavailable": "503",
    "server_error": "503",
}


_NOT_TOLD = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
"""What may not stand in an `error_description` (RFC 6749 §5.2): in a header it stands between quotation marks."""


class OAuthError(Exception):
    """A refusal. `description` is for the caller's developer: it never repeats a token nor tells whether one exists.

    `status` is told where it is not the code's usual one.
    """

    def __init__(self, code: Code, description: str, status: str | None = None) -> None:
        super().__init__(f"{code}: {description}")
        self._status = status or _STATUS.get(code, "400")
        self.code: Code = code
        self.description = description

    def body(self) -> bytes:
        """RFC 6749 §5.2; with a question mark for each character that may not be told."""
        description = _NOT_TOLD.sub("?", self.description)
        return msgspec.json.encode({"error": self.code, "error_description": description})

    def headers(self) -> dict[str, str]:
        """What NATS micro clients look at."""
        return {"Nats-Service-Error": self.code, "Nats-Service-Error-Code": self._status}


def invalid_client() -> OAuthError:
    """All that a client hears that could not prove who it is: the same whatever was wrong (RFC 6749 §5.2)."""
    return OAuthError("invalid_client", "client authentication failed")
