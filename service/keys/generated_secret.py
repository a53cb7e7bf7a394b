"""Secrets that this service generates (RFC 6749 §2.3.1): 256 random bits, stored as a digest (ADR 0031).

Nobody can guess such a secret, so a fast hash is enough, and a wrong secret costs no more than any other request.
"""

import hashlib
import hmac
import secrets

from events import base64url

_FORM = "sha256:"
_LABEL = b"heirloom/v1/secret\0"
_NOBODYS = _FORM + "A" * 43
"""Compared with if no digest is stored, so that the comparison takes as long."""


def new_secret() -> str:
    """A fresh secret: 43 characters of base64url."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """The text that is stored in place of the secret."""
    return _FORM + base64url.encode(hashlib.sha256(_LABEL + secret.encode()).digest()).decode()


def matches(stored: str | None, secret: str) -> bool:
    """Whether `stored` is the secret's digest; False for None. It takes the same time in every case."""
    return hmac.compare_digest((stored or _NOBODYS).encode(), digest(secret).encode()) and stored is not None
