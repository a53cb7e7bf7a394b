"""Base64url without padding (RFC 7515 §2), which the standard library lacks."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

PADDING = b"=="
"""As much as any text lacks; the decoder ignores what is too much."""


def encode(data: bytes) -> bytes:
    """Encode without `=` at the end."""
    return urlsafe_b64encode(data).rstrip(b"=")


def decode(text: bytes) -> bytes:
    """Decode, but skip other characters and ignore spare bits. Raises `ValueError` for a wrong length."""
    return urlsafe_b64decode(text + PADDING)


def decode_exactly(text: bytes) -> bytes:
    """Decode the one text that `encode` makes of these bytes. Raises `ValueError` for any other."""
    data = decode(text)
    if encode(data) != text:
        raise ValueError("not canonical base64url")
    return data
