"""A request as it came, before anything of it is looked at but its subject."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from events.aggregates.subjects import ILLEGIBLE, is_legible
from events.bus.connection import Connection
from events.bus.headers import unreadable
from events.strict_json import MAX_BODY
from service.context import Context
from service.errors import OAuthError
from service.replicas.leases import REQUEST_SECONDS
from service.request import Request

Endpoint: TypeAlias = Callable[[Context, Request], Awaitable[bytes]]

WAIT_SECONDS = 1.5
"""Less than a request takes that finds no log: when that is over, all that waited are refused, and not one by one."""
KEPT_OF_BODY = MAX_BODY + 1
"""Bytes: of a body that is too large so much is kept that it is seen to be."""


class Received:
    """Who asks is what the subject says: `oauth.<tenant>.client.<client_id>.…`; the endpoint's name says where it
    was not the client, but a person's token of that client; of others neither says anything.

    `name` and `endpoint` are who answers, `at` is when it came, `connection` the one by which it is answered.
    """

    connection: Connection

    __slots__ = (
        "_is_legible",
        "at",
        "body",
        "client_id",
        "connection",
        "endpoint",
        "headers",
        "name",
        "proved_by",
        "reply",
        "subject",
        "tenant",
    )

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        subject: str,
        reply: str,
        body: bytes,
        headers: bytes | dict[str, str] | None,
    ) -> None:
        fields = subject.split(".")
        self._is_legible = is_legible(subject)
        self.name = name
        self.endpoint = endpoint
        self.subject = subject
        self.tenant, self.proved_by = fields[1], fields[2]
        self.client_id = fields[3] if self.proved_by == "client" else ""
        if name.startswith("person-"):
            self.proved_by = "person"
        self.reply = reply
        self.body = body[:KEPT_OF_BODY]
        self.headers = headers
        self.at = time.perf_counter()

    def check(self) -> None:
        """Raises `invalid_request` for a subject or headers that are not to be read, and so are not kept either."""
        if not self._is_legible:
            raise OAuthError("invalid_request", ILLEGIBLE)
        if isinstance(self.headers, bytes) and (reason := unreadable(self.headers)) is not None:
            raise OAuthError("invalid_request", reason)

    def check_wait(self) -> None:
        """Raises `temporarily_unavailable` when it has waited so long that it is better asked again."""
        if time.perf_counter() - self.at > WAIT_SECONDS:
            raise OAuthError("temporarily_unavailable", "too many requests are under way; try again")

    def check_time(self) -> None:
        """Raises `temporarily_unavailable` when it took so long that what was decided may not be told any more."""
        if time.perf_counter() - self.at > REQUEST_SECONDS:
            raise OAuthError("temporarily_unavailable", "this took too long to be told; try again")
