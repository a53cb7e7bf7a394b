"""Secrets that this service makes and gives away (RFC 6749 §2.3.1): 256 random bits, kept as a digest (ADR 0031).

Nobody finds such a secret, however fast it is verified; so a guess costs no more than any request.
"""

import hashlib
import hmac
import secrets

from events import base64url

_FORM = "sha256:"
_LABEL = b"heirloom/v1/secret\0"
_NOBODYS = _FORM + "A" * 43
"""Compared with where there is none, so that this takes as long."""


def new_secret() -> str:
    """43 characters of base64url."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is kept of it."""
    return _FORM + base64url.encode(hashlib.sha256(_LABEL + secret.encode()).digest()).decode()


def matches(kept: str | None, secret: str) -> bool:
    """Whether that is the secret whose digest was kept; None: no secret is right. It takes as long either way."""
    return hmac.compare_digest((kept or _NOBODYS).encode(), digest(secret).encode()) and kept is not None
