"""User codes (RFC 8628 §6.1): short enough to type. The family id is computed from the code, so no code is stored.

Eight consonants hold about 34 bits. A code is valid for ten minutes, and only a trusted login service may try one.
"""

import hmac
import secrets
import unicodedata

from events import base62
from service.keys.keyring import Keyring

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
LENGTH = 8
MAX_LENGTH = 64
"""A longer text is no user code."""


def new_user_code() -> str:
    """A fresh code as it is displayed: `WDJB-MJHT`."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{letters[:4]}-{letters[4:]}"


def family_of(keyring: Keyring, tenant: str, user_code: str) -> str | None:
    """The id of the code's family; None for a text that cannot be a code.

    Characters that no code contains are skipped, and full-width letters count as letters (RFC 8628 §6.1).
    """
    if len(user_code) > MAX_LENGTH:
        return None
    plain = unicodedata.normalize("NFKC", user_code)
    letters = "".join(character.upper() for character in plain if character.isascii() and character.upper() in ALPHABET)
    if len(letters) != LENGTH:
        return None
    key = keyring.derive(keyring.first, f"user-code/{tenant}")
    return base62.encode(hmac.digest(key, letters.encode(), "sha256")[:16])
