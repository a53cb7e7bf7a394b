"""Reads what the text of a token claims. That names what to look up, and proves nothing.

A JWT carries its claims. The service's other tokens carry their family and a number in clear (`events.token_format`).
Introspection, which has the keys, checks whether a token is genuine; the auditor has no keys.
"""

from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from events import base62, base64url
from events.token_format import CRC_WIDTH, FAMILY_WIDTH, FORM, KEY_WIDTH, LONG_TAG_WIDTH, SHORT_TAG_WIDTH

ParsedKind: TypeAlias = Literal["access", "refresh", "code"]

_KINDS: dict[str, ParsedKind] = {"refresh": "refresh", "code": "code", "device": "code", "access": "access"}
_BY_PREFIX = {prefix: (_KINDS[kind], width) for kind, (prefix, width) in FORM.items()}
_PREFIX_WIDTH = 4
_TAGS_WIDTH = SHORT_TAG_WIDTH + LONG_TAG_WIDTH + CRC_WIDTH


class NoToken(Exception):
    """The text has the form of no token."""


class IdToken(NoToken):
    """It is an ID token. Ours have no `jti`, so they do not name the commit that issued them."""


class TokenClaim(NamedTuple):
    """A token by `jti`, or by family and `number`: the generation, or the sequence that issued an access token."""

    kind: ParsedKind
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
    if token[:_PREFIX_WIDTH] in _BY_PREFIX:
        return _plain(token)
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise NoToken
    try:
        claims = msgspec.json.decode(base64url.decode(parts[1].encode()))
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
    kind, width = _BY_PREFIX[token[:_PREFIX_WIDTH]]
    body = token[_PREFIX_WIDTH:]
    if len(body) != KEY_WIDTH + FAMILY_WIDTH + width + _TAGS_WIDTH or base62.decode_int(body) is None:
        raise NoToken
    family_id, rest = body[KEY_WIDTH:][:FAMILY_WIDTH], body[KEY_WIDTH + FAMILY_WIDTH :]
    number = base62.decode_int(rest[:width])
    if number is None or number >= 2**63:
        raise NoToken
    return TokenClaim(kind, family_id, number=number)
