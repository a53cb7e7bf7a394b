"""The parameters of every grant type, under their RFCs' names."""

import msgspec


class TokenRequest(msgspec.Struct, frozen=True):
    """RFC 6749 §4–6, RFC 8707 (`resource`). Unknown parameters are ignored (RFC 6749 §3.2)."""

    grant_type: str | None = None
    scope: str | None = None
    resource: str | tuple[str, ...] | None = None
    refresh_token: str | None = None


decoder = msgspec.json.Decoder(TokenRequest)
