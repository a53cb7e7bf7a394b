"""What the text of a token says of itself. It names what to look up, and proves nothing.

A JWT carries its claims, and the service's other tokens carry in clear which family they are of and a number:
`hrt_`, `hac_`, `hdc_` + key (2 characters) + family (22) + number (6), `hat_` with a number of 11, then what
authenticates them. Whether a token is genuine is for introspection, which has the keys; the auditor has none.
"""

from base64 import urlsafe_b64decode
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

Kind: TypeAlias = Literal["access", "refresh", "code"]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM: dict[str, tuple[Kind, int]] = {"hrt_": ("refresh", 6), "hac_": ("code", 6), "hdc_": ("code", 6)}
_FORM["hat_"] = "access", 11
_PREFIX, _KEY, _FAMILY, _TAGS = 4, 2, 22, 11 + 22 + 6


class NoToken(Exception):
    """The text is no token of any form."""


class IdToken(NoToken):
    """It is an ID token. Ours have no `jti`: of which commit it came they do not say."""


class Claim(NamedTuple):
    """Which token it says it is: by `jti`, or by family and `number`: a generation, or an access token's commit."""

    kind: Kind
    family_id: str | None = None
    jti: str | None = None
    number: int = 0


class _Claims(msgspec.Struct):
    jti: str
    sid: str | None = None


class _IdClaims(msgspec.Struct):
    """What every ID token has (OpenID Connect Core §2)."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: int | float
    iat: int | float


def claim_of(token: str) -> Claim:
    """What the token says it is. Raises `IdToken`, and `NoToken` for what is none of any form."""
    if token[:_PREFIX] in _FORM:
        return _plain(token)
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise NoToken
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return _of_jwt(claims)
    except (ValueError, RecursionError) as error:
        raise NoToken from error


def _of_jwt(claims: Any) -> Claim:
    """Raises `IdToken`, and `msgspec.ValidationError` for any other that says not which it is."""
    if isinstance(claims, dict) and "jti" not in claims:
        msgspec.convert(claims, _IdClaims)
        raise IdToken
    known = msgspec.convert(claims, _Claims)
    return Claim("access", known.sid, known.jti)


def _plain(token: str) -> Claim:
    kind, digits = _FORM[token[:_PREFIX]]
    body = token[_PREFIX:]
    if len(body) != _KEY + _FAMILY + digits + _TAGS or any(character not in _ALPHABET for character in body):
        raise NoToken
    family, number = body[_KEY : _KEY + _FAMILY], 0
    for character in body[_KEY + _FAMILY :][:digits]:
        number = number * 62 + _ALPHABET.index(character)
    if number >= 2**63:
        raise NoToken
    return Claim(kind, family, number=number)
