"""The parameters of every grant type, under their RFCs' names."""

import msgspec


class TokenRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parameters of RFC 6749 §4–6, 7636, 8628, 8693 and 8707. Unknown ones are ignored (RFC 6749 §3.2)."""

    grant_type: str | None = None
    client_id: str | None = None
    scope: str | None = None
    resource: str | tuple[str, ...] | None = None
    refresh_token: str | None = None
    code: str | None = None
    redirect_uri: str | None = None
    code_verifier: str | None = None
    device_code: str | None = None
    subject_token: str | None = None
    subject_token_type: str | None = None
    requested_token_type: str | None = None
    actor_token: str | None = None
    audience: str | tuple[str, ...] | None = None


decoder = msgspec.json.Decoder(TokenRequest)
