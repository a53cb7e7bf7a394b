"""The requests of the audit queries (contract §5), strictly decoded, and the error that refuses one."""

from datetime import datetime
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from events import strict_json
from events.aggregates.family_events import RevocationReason
from projections.decoded_commit import microseconds
from projections.tables.families import Status
from projections.tables.incidents import IncidentReason

T = TypeVar("T")

QUEUE = "heirloom-audit"
"""The queue group in which the projectors share the requests."""

Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""RFC 3339."""
Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Sequence: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class QueryRefused(Exception):
    """The query is not answered: `code` is an error of contract §2, `status` stands in the reply's header."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status

    def body(self) -> bytes:
        """The error response in JSON (RFC 6749 §5.2)."""
        return msgspec.json.encode({"error": self.code, "error_description": self.description})

    def headers(self) -> dict[str, str]:
        """The headers by which clients of NATS services recognise an error."""
        return {"Nats-Service-Error": self.code, "Nats-Service-Error-Code": str(self.status)}


class UnknownTenant(QueryRefused):
    """The log has no such tenant: that nothing is found about it is no answer."""

    def __init__(self) -> None:
        super().__init__("invalid_request", "the log has no tenant of that name")


class AuditRequest(msgspec.Struct, frozen=True):
    """Any query: it waits until the read model has applied the sequence `min_seq` of the log."""

    min_seq: Sequence | None = None


class PageRequest(AuditRequest, frozen=True, kw_only=True):
    """A query that is answered page by page: at most `limit` items, from `cursor` on."""

    limit: Limit = 100
    cursor: str | None = None


class FamilyRequest(PageRequest, frozen=True, kw_only=True):
    """One family; `limit` counts the entries of its timeline, or the tokens of a blast radius."""

    family_id: str
    limit: Limit = 200


class PeriodRequest(PageRequest, frozen=True, kw_only=True):
    """A period of the log; `since` and `until` are both included."""

    since: Time | None = None
    until: Time | None = None


class ListRequest(PeriodRequest, frozen=True, kw_only=True):
    """A list, of one person's rows, of one client's, or of all."""

    sub: str | None = None
    client_id: str | None = None


class FamiliesRequest(ListRequest, frozen=True, kw_only=True):
    """Families that began in the period; those that expired less than `leeway` seconds ago count as live, too."""

    status: Status | None = None
    leeway: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 0


class RevocationListRequest(ListRequest, frozen=True, kw_only=True):
    """Revocations, of one reason or of all."""

    reason: RevocationReason | None = None


class IncidentListRequest(ListRequest, frozen=True, kw_only=True):
    """Incidents, of one reason or of all."""

    reason: IncidentReason | None = None


class TokenValidityRequest(AuditRequest, frozen=True, kw_only=True):
    """A token by its text, an access token by its `jti`, or a refresh token by family and generation; `at`: now.

    An ID token has no `jti`; its text names its family only.
    """

    token: str | None = None
    jti: str | None = None
    family_id: str | None = None
    generation: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    at: Time | None = None


class AsOfRequest(PageRequest, frozen=True, kw_only=True):
    """A family, the families of `sub`, or all families; at a time or after a sequence, by default now."""

    family_id: str | None = None
    sub: str | None = None
    at: Time | None = None
    seq: Sequence | None = None


class DiffRequest(PageRequest, frozen=True, kw_only=True):
    """The commits after `from_seq`, up to and including `to_seq`."""

    from_seq: Sequence
    to_seq: Sequence


class SubjectHistoryRequest(PageRequest, frozen=True, kw_only=True):
    """One person, by their `sub`."""

    sub: str
    limit: Limit = 200


class SearchRequest(PeriodRequest, frozen=True, kw_only=True):
    """The commits of the period that contain every word of `text`."""

    text: Annotated[str, msgspec.Meta(max_length=256)]


def times(request: PeriodRequest) -> tuple[int | None, int | None]:
    """`since` and `until` in microseconds since 1970. Raises `QueryRefused` where `since` is the later one."""
    if request.since and request.until and request.since > request.until:
        raise QueryRefused("invalid_request", "since is after until")
    since, until = (None if time is None else microseconds(time) for time in (request.since, request.until))
    return since, until


def decode(body: bytes, request: type[T]) -> T:
    """The request. Raises `QueryRefused` unless the body is one JSON object with unique keys and the right types."""
    try:
        strict_json.check(body)
        return strict_json.decode(body, msgspec.json.Decoder(request))
    except strict_json.Malformed as malformed:
        raise QueryRefused("invalid_request", str(malformed)) from malformed
