"""A request as it arrived, before anything but its subject is read."""

import time
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from events.aggregates.aggregate_names import ILLEGIBLE, is_legible
from events.bus.connection import Connection
from events.bus.headers import unreadable
from events.strict_json import MAX_BODY
from service.context import Context
from service.errors import OAuthError
from service.refusal import busy
from service.replicas.leases import REQUEST_SECONDS
from service.request import Request

Endpoint: TypeAlias = Callable[[Context, Request], Awaitable[bytes]]
"""Answers a request with the reply's JSON. Raises `OAuthError` for a refusal, and `Unavailable`."""
ProvedBy: TypeAlias = Literal["subject", "person", "request", "role", "nobody"]
"""How the client is proved: by the subject, which the broker's permissions vouch for; by the subject on the connection
of somebody with a person's token; by the request itself, through an HTTP edge; or not at all, in a public endpoint. A
role's request is of no client: the broker's permissions vouch for the role."""


class Row(NamedTuple):
    """A row of the table of endpoints (`service.endpoints.endpoint_table`): `handle` answers the requests on `subject`.

    `name` is the row's own in metrics and `nats micro`, `endpoint` the one that it has in its RFC. A row is
    `read_only` where its requests append nothing to the log. `request` and `reply` are the types of its parameters and
    answers, None where there are none, or any.
    """

    name: str
    endpoint: str
    subject: str
    handle: Endpoint
    proved_by: ProvedBy
    read_only: bool = False
    request: type[msgspec.Struct] | None = None
    reply: type[msgspec.Struct] | None = None

    @property
    def authenticates_client(self) -> bool:
        """Whether the request itself carries the client's authentication (RFC 6749 §2.3)."""
        return self.proved_by == "request"


WAIT_SECONDS = 1.5
"""How long a request may wait for its turn. A request that finds no log takes longer than this, so all that waited
behind it are refused together, and not one after another."""
KEPT_OF_BODY = MAX_BODY + 1
"""Bytes of a body that are kept: one more than a body may have shows that it is too large."""


class Received:
    """A request on the subject of `row`. Its tenant, and its client where the subject names one, are in the subject.

    `at` is when it arrived (`time.perf_counter`), and `connection` is where the reply is published.
    """

    __slots__ = (
        "_is_legible",
        "at",
        "body",
        "client_id",
        "connection",
        "headers",
        "reply",
        "row",
        "subject",
        "tenant",
    )

    def __init__(
        self,
        row: Row,
        connection: Connection,
        subject: str,
        reply: str,
        body: bytes,
        headers: bytes | dict[str, str] | None,
    ) -> None:
        fields = subject.split(".")
        self._is_legible = is_legible(subject)
        self.row = row
        self.connection = connection
        self.subject = subject
        self.tenant = fields[1]
        self.client_id = fields[3] if fields[2] == "client" else ""
        self.reply = reply
        self.body = body[:KEPT_OF_BODY]
        self.headers = headers
        self.at = time.perf_counter()

    def check(self) -> None:
        """Raise `invalid_request` for a subject or headers that must not be read any further (CONTRACT §2)."""
        if not self._is_legible:
            raise OAuthError("invalid_request", ILLEGIBLE)
        if isinstance(self.headers, bytes) and (reason := unreadable(self.headers)) is not None:
            raise OAuthError("invalid_request", reason)

    def check_wait(self) -> None:
        """Raise `temporarily_unavailable` when the request has waited longer than `WAIT_SECONDS`."""
        if time.perf_counter() - self.at > WAIT_SECONDS:
            raise busy()

    def check_time(self) -> None:
        """Raise `temporarily_unavailable` when it took longer than `REQUEST_SECONDS`: the decision is too old."""
        if time.perf_counter() - self.at > REQUEST_SECONDS:
            raise OAuthError("temporarily_unavailable", "this took too long to be told; try again")
