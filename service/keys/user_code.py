"""User codes (RFC 8628 §6.1): short enough to type, and the family is computed from them, so nothing is kept.

Eight consonants say about 34 bits; the code is good for ten minutes and only a trusted login service may try one.
"""

import hmac
import secrets
import unicodedata

from events import base62
from service.keys.keyring import Keyring

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
LENGTH = 8
LONGEST = 64
"""Characters in all that are looked at."""


def new_user_code() -> str:
    """As it is shown: `WDJB-MJHT`."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{letters[:4]}-{letters[4:]}"


def family_of(keyring: Keyring, tenant: str, user_code: str) -> str | None:
    """The family the code stands for, however it was typed; None for what no code can be.

    Whatever is no letter of a code is passed over, and full-width letters are what they look like (RFC 8628 §6.1).
    """
    if len(user_code) > LONGEST:
        return None
    plain = unicodedata.normalize("NFKC", user_code)
    letters = "".join(character.upper() for character in plain if character.isascii() and character.upper() in ALPHABET)
    if len(letters) != LENGTH:
        return None
    key = keyring.derive(keyring.first, f"user-code/{tenant}")
    return base62.encode(hmac.digest(key, letters.encode(), "sha256")[:16])
