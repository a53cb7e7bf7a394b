"""Every error of this package: one class for each code of the RFCs, and what happens without an answer."""


class Error(Exception):
    """What every error of this package is.

    `code` is the RFC's word, `description` a sentence for people, `status` that of the same answer over HTTP; 0 where
    the service has not answered. No error contains a token.
    """

    code = "error"

    def __init__(self, description: str = "", *, code: str | None = None, status: int = 0) -> None:
        self.code = code or self.code
        self.description = description
        self.status = status
        super().__init__(f"{self.code}: {description}" if description else self.code)


class InvalidRequest(Error):
    """A parameter is missing, repeated or wrong (RFC 6749 §5.2)."""

    code = "invalid_request"


class InvalidClient(Error):
    """The client is unknown or disabled, or its credentials are wrong (RFC 6749 §5.2)."""

    code = "invalid_client"


class InvalidGrant(Error):
    """The code or refresh token is dead, unknown, or another client's (RFC 6749 §5.2)."""

    code = "invalid_grant"


class UnauthorizedClient(Error):
    """The client is not registered for this grant type or endpoint (RFC 6749 §5.2)."""

    code = "unauthorized_client"


class UnsupportedGrantType(Error):
    """The service has no such grant type (RFC 6749 §5.2)."""

    code = "unsupported_grant_type"


class InvalidScope(Error):
    """The scope is more than was granted, or than the client is registered for (RFC 6749 §5.2)."""

    code = "invalid_scope"


class InvalidTarget(Error):
    """The client may have no tokens for this resource or audience (RFC 8707 §2, RFC 8693 §2.2.2)."""

    code = "invalid_target"


class AccessDenied(Error):
    """The person has refused (RFC 8628 §3.5)."""

    code = "access_denied"


class AuthorizationPending(Error):
    """Nobody has answered the device's request yet (RFC 8628 §3.5)."""

    code = "authorization_pending"


class ExpiredToken(Error):
    """The device code is over before anybody answered (RFC 8628 §3.5)."""

    code = "expired_token"


class SlowDown(Error):
    """Too many requests, or a device that polls too soon (RFC 8628 §3.5)."""

    code = "slow_down"


class UnsupportedTokenType(Error):
    """A token of this type cannot be revoked (RFC 7009 §2.2.1)."""

    code = "unsupported_token_type"


class ServerError(Error):
    """The service has failed, or has sent what is no answer."""

    code = "server_error"


class Unavailable(Error):
    """There is no answer: the broker or the service cannot be reached, or a reply was lost. Try again later."""

    code = "unavailable"


class TemporarilyUnavailable(Unavailable):
    """The service had no time for the request, and has read and written nothing."""

    code = "temporarily_unavailable"


class NotPermitted(Error):
    """The broker does not let this connection publish there, or receive in its inbox."""

    code = "not_permitted"


class InvalidToken(Error):
    """An access token is not good here: forged, expired, revoked, or for another resource (RFC 6750 §3.1)."""

    code = "invalid_token"


class Stale(Unavailable):
    """A token may have been revoked without the verifier's hearing of it: it has no fresh news. Try again later."""

    code = "stale"


class StoreError(Error):
    """A store cannot be read or written; the description names it and what to do. Nothing is lost."""

    code = "store_error"


_BY_CODE: dict[str, type[Error]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        InvalidClient,
        InvalidGrant,
        UnauthorizedClient,
        UnsupportedGrantType,
        InvalidScope,
        InvalidTarget,
        AccessDenied,
        AuthorizationPending,
        ExpiredToken,
        SlowDown,
        UnsupportedTokenType,
        ServerError,
        TemporarilyUnavailable,
    )
}


def by_code(code: str, description: str, status: int) -> Error:
    """The error of a reply's `error`; of an unknown code an `Error` that has it."""
    return _BY_CODE.get(code, Error)(description, code=code, status=status)
