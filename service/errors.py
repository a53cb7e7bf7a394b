"""Every error code that a caller may receive, with its status (CONTRACT §2)."""

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


_NOT_ALLOWED = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
"""Characters that an `error_description` must not contain (RFC 6749 §5.2), as a header quotes it."""


class ErrorResponse(msgspec.Struct, frozen=True):
    """The body of a refusal (RFC 6749 §5.2)."""

    error: Code
    error_description: str


class OAuthError(Exception):
    """A refusal. `description` is for the caller's developer; it never repeats a token, nor tells whether one exists.

    `status` is given if it is not the code's usual one.
    """

    def __init__(self, code: Code, description: str, status: str | None = None) -> None:
        super().__init__(f"{code}: {description}")
        self._status = status or _STATUS.get(code, "400")
        self.code: Code = code
        self.description = description

    def body(self) -> bytes:
        """The JSON body of RFC 6749 §5.2, with a question mark for each character that it must not contain."""
        description = _NOT_ALLOWED.sub("?", self.description)
        return msgspec.json.encode(ErrorResponse(self.code, description))

    def headers(self) -> dict[str, str]:
        """The headers by which clients of NATS micro recognise an error."""
        return {"Nats-Service-Error": self.code, "Nats-Service-Error-Code": self._status}


def invalid_client() -> OAuthError:
    """The refusal of a client that failed to authenticate; it does not tell the reason (RFC 6749 §5.2)."""
    return OAuthError("invalid_client", "client authentication failed")
