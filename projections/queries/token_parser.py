"""Reads what the text of a token claims. That names what to look up, and proves nothing.

A JWT carries its claims. The service's other tokens carry their family and a number in clear: `hrt_`, `hac_`, `hdc_`,
key (2 characters), family (22), number (6, `hat_`: 11), then the part that authenticates them. Introspection, which has
the keys, checks whether a token is genuine; the auditor has no keys.
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
    """The text has the form of no token."""


class IdToken(NoToken):
    """It is an ID token. Ours have no `jti`, so they do not name the commit that issued them."""


class TokenClaim(NamedTuple):
    """A token by `jti`, or by family and `number`: the generation, or the sequence that issued an access token."""

    kind: Kind
    family_id: str | None = None
    jti: str | None = None
    number: int = 0


class _AccessTokenClaims(msgspec.Struct):
    jti: str
    sid: str | None = None


class _IdTokenClaims(msgspec.Struct):
    """The required claims of an ID token (OpenID Connect Core §2)."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: int | float
    iat: int | float


def claim_of(token: str) -> TokenClaim:
    """The token that the text claims to be. Raises `IdToken`, and `NoToken` for a text that has no token's form."""
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


def _of_jwt(claims: Any) -> TokenClaim:
    """The access token. Raises `IdToken`, and `msgspec.ValidationError` for any other JWT without a `jti`."""
    if isinstance(claims, dict) and "jti" not in claims:
        msgspec.convert(claims, _IdTokenClaims)
        raise IdToken
    access_token = msgspec.convert(claims, _AccessTokenClaims)
    return TokenClaim("access", access_token.sid, access_token.jti)


def _plain(token: str) -> TokenClaim:
    kind, digits = _FORM[token[:_PREFIX]]
    body = token[_PREFIX:]
    if len(body) != _KEY + _FAMILY + digits + _TAGS or any(character not in _ALPHABET for character in body):
        raise NoToken
    family, number = body[_KEY : _KEY + _FAMILY], 0
    for character in body[_KEY + _FAMILY :][:digits]:
        number = number * 62 + _ALPHABET.index(character)
    if number >= 2**63:
        raise NoToken
    return TokenClaim(kind, family, number=number)
