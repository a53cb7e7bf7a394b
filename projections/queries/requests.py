"""What may be asked (CONTRACT §5): the parameters of each audit query, strictly decoded, and how a refusal looks."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec

from events import strict_json
from events.aggregates.family import RevocationReason
from projections.decoded_commit import microseconds

T = TypeVar("T")

QUEUE = "heirloom-audit"
"""In which projectors share the questions."""

Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""RFC 3339."""
Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Sequence: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Refused(Exception):
    """The query is not answered. `code` is one of CONTRACT §2, `status` what the reply's header says."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status

    def body(self) -> bytes:
        """RFC 6749 §5.2."""
        return msgspec.json.encode({"error": self.code, "error_description": self.description})

    def headers(self) -> dict[str, str]:
        """What clients of NATS services look at."""
        return {"Nats-Service-Error": self.code, "Nats-Service-Error-Code": str(self.status)}


class Request(msgspec.Struct, frozen=True):
    """Every query waits until this sequence of the log is applied."""

    min_seq: Sequence | None = None


class FamilyRequest(Request, frozen=True, kw_only=True):
    """One family; its timeline has at most `limit` entries, `cursor` goes on. Of a theft, so many tokens are told."""

    family_id: str
    limit: Limit = 200
    cursor: str | None = None


class ListRequest(Request, frozen=True):
    """What all lists can be asked. `since` and `until` are both included."""

    sub: str | None = None
    client_id: str | None = None
    since: Time | None = None
    until: Time | None = None
    limit: Limit = 100
    cursor: str | None = None


class FamiliesRequest(ListRequest, frozen=True):
    """`since` and `until` are about when the family began; what expired less than `leeway` seconds ago counts among
    the live ones too.
    """

    status: Literal["live", "revoked", "expired"] | None = None
    leeway: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 0


class ReasonRequest(ListRequest, frozen=True):
    """Revocations and incidents."""

    reason: RevocationReason | None = None


class TokenRequest(Request, frozen=True, kw_only=True):
    """A token by its text, an access token by its `jti`, a refresh token by family and generation; `at`: now.

    An ID token has no `jti`, and its text tells its family alone.
    """

    token: str | None = None
    jti: str | None = None
    family_id: str | None = None
    generation: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    at: Time | None = None


class AsOfRequest(Request, frozen=True, kw_only=True):
    """A family, the families of `sub`, or all; at a time or after a sequence, by default now."""

    family_id: str | None = None
    sub: str | None = None
    at: Time | None = None
    seq: Sequence | None = None
    limit: Limit = 100
    cursor: str | None = None


class DiffRequest(Request, frozen=True, kw_only=True):
    """What came after `from_seq`, up to and with `to_seq`."""

    from_seq: Sequence
    to_seq: Sequence
    limit: Limit = 100
    cursor: str | None = None


class SubjectRequest(Request, frozen=True, kw_only=True):
    """One person."""

    sub: str
    limit: Limit = 200
    cursor: str | None = None


class PeriodRequest(Request, frozen=True, kw_only=True):
    """`since` and `until` are both included."""

    since: Time | None = None
    until: Time | None = None
    limit: Limit = 100
    cursor: str | None = None


class SearchRequest(PeriodRequest, frozen=True, kw_only=True):
    """Commits with all of these words."""

    text: Annotated[str, msgspec.Meta(max_length=256)]


def times(request: ListRequest | PeriodRequest) -> tuple[int | None, int | None]:
    """`since` and `until` in microseconds. Raises `Refused`."""
    if request.since and request.until and request.since > request.until:
        raise Refused("invalid_request", "since is after until")
    since, until = (None if time is None else microseconds(time) for time in (request.since, request.until))
    return since, until


def decode(body: bytes, request: type[T]) -> T:
    """The parameters. Raises `Refused` for anything but one JSON object with each key once and right types."""
    try:
        strict_json.check(body)
        return strict_json.decode(body, msgspec.json.Decoder(request))
    except strict_json.Malformed as malformed:
        raise Refused("invalid_request", str(malformed)) from malformed
