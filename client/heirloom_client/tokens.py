"""The service's answers as frozen values. No `repr` shows a token."""

from typing import Any

import msgspec

_SECRET = frozenset({"access_token", "refresh_token", "id_token", "device_code", "code", "secret"})


class Hidden(msgspec.Struct, frozen=True):
    """A value that may be logged: its `repr` shows neither tokens nor secrets."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        fields = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(name, "…" if name in _SECRET and value is not None else value) for name, value in fields]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"


class Tokens(Hidden, frozen=True, kw_only=True):
    """A token response (RFC 6749 §5.1). `expires_in` are seconds from the answer; `scope` is what was granted."""

    access_token: str
    expires_in: int
    scope: str = ""
    token_type: str = "Bearer"
    refresh_token: str | None = None
    id_token: str | None = None
    issued_token_type: str | None = None


class Code(Hidden, frozen=True, kw_only=True):
    """An authorization code (RFC 6749 §4.1.2), good for `expires_in` seconds."""

    code: str
    expires_in: int


class DeviceAuthorization(Hidden, frozen=True, kw_only=True):
    """What a device shows to its person, and polls with (RFC 8628 §3.2). Times are seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    interval: int = 5
    verification_uri_complete: str | None = None


class Introspection(msgspec.Struct, frozen=True):
    """Whether a token is active, and what is known of it: the members of RFC 7662 §2.2. False where it is not active.

    `if (await oauth.introspect(token)).active: …`
    """

    active: bool
    claims: dict[str, Any] = {}

    def __bool__(self) -> bool:
        return self.active
