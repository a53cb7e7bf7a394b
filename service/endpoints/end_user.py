"""The person whom the caller has authenticated, and how (OpenID Connect Core §2)."""

from typing import NamedTuple

import msgspec

from events.visible_text import JOINERS
from service.errors import OAuthError
from service.request import at_most, check_text, required

MAX_SUB_CHARACTERS = 255
MAX_ACR_CHARACTERS = 255
MAX_AMR = 16
MAX_NONCE_CHARACTERS, MAX_NONCE_BYTES = 512, 1024

_WITHOUT_JOINERS = str.maketrans("", "", JOINERS)


class PersonRequest(msgspec.Struct, frozen=True):
    """The parameters about the person, unchecked; `auth_time` is a NumericDate (RFC 7519 §2)."""

    sub: str | None = None
    acr: str | None = None
    amr: tuple[str, ...] | None = None
    auth_time: int | None = None
    nonce: str | None = None


class Person(NamedTuple):
    """The same parameters, checked."""

    sub: str
    acr: str | None
    amr: tuple[str, ...]
    auth_time: int | None
    nonce: str | None


def person_of(parameters: PersonRequest) -> Person:
    """The parameters, checked. Raises `invalid_request` for a missing or unprintable `sub`, and for long values."""
    sub = required(parameters.sub, "sub")
    at_most(sub, MAX_SUB_CHARACTERS, "sub")
    if not sub.translate(_WITHOUT_JOINERS).isprintable():
        raise OAuthError("invalid_request", "the parameter sub has a character that cannot be printed")
    amr = parameters.amr or ()
    if len(amr) > MAX_AMR or any(not 0 < len(method) <= MAX_ACR_CHARACTERS for method in amr):
        raise OAuthError("invalid_request", f"amr must be at most {MAX_AMR} short strings (RFC 8176)")
    for method in amr:
        check_text(method, "amr")
    if parameters.auth_time is not None and not 0 <= parameters.auth_time < 1 << 40:
        raise OAuthError("invalid_request", "auth_time must be a NumericDate")
    acr = at_most(parameters.acr, MAX_ACR_CHARACTERS, "acr")
    nonce = at_most(parameters.nonce, MAX_NONCE_CHARACTERS, "nonce")
    if nonce is not None and len(msgspec.json.encode(nonce)) > MAX_NONCE_BYTES:
        raise OAuthError("invalid_request", f"the parameter nonce has more than {MAX_NONCE_BYTES} bytes of JSON")
    return Person(sub, acr, amr, parameters.auth_time, nonce)
