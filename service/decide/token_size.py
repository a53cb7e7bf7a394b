"""Every issued token can be presented: no access token reaches 8 KiB, whatever was granted (CONTRACT §2)."""

import msgspec

from service.errors import OAuthError

MAX_GRANT_BYTES = 4_000
"""Bytes of JSON for the grant's part of a token. The rest is at most 1,800 bytes (see the tests)."""
_encode = msgspec.json.Encoder().encode


def check_size(sub: str, scope: str, audience: tuple[str, ...], acr: str | None, amr: tuple[str, ...]) -> None:
    """Raises `invalid_request` for a grant whose tokens would be too large to be presented."""
    if len(_encode((sub, scope, audience, acr, amr))) > MAX_GRANT_BYTES:
        fields = "sub, scope, resource (audience), acr and amr together are longer than"
        raise OAuthError("invalid_request", f"{fields} {MAX_GRANT_BYTES} bytes of JSON")
