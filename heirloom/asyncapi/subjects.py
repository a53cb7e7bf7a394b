"""Every subject of the service, with its messages, from the tables that it is served by (CONTRACT §2, §5, §6, §8)."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from events.aggregates import aggregate_names
from heirloom.what_if.findings import Findings
from heirloom.what_if.query import WhatIfRequest
from projections.queries.requests import AuditRequest
from projections.queries.server import QUERIES
from service.admin import operations
from service.endpoints.endpoint_table import endpoints
from service.revocations.entries import ClientVoided, FamilyEnded, Heartbeat, KeyChanged, TokenEnded
from service.revocations.stream import heartbeat_on

TENANT, CLIENT, FAMILY = "{tenant}", "{client_id}", "{family_id}"
TAGS = {"subject": "client", "request": "edge", "nobody": "public", "role": "resource"}
"""By how a row's caller is proved. A person asks on a subject of the client's."""


class Subject(NamedTuple):
    """Where requests are received and answered, or where something is published.

    `address` has the names of parameters in braces. `message` is the type of a request or of what is published, and
    `reply` that of a reply; None where no type describes it. `may_retry`: a request may have an `Idempotency-Key`.
    """

    name: str
    address: str
    summary: str
    tag: str
    message: Any = None
    reply: Any = None
    is_answered: bool = True
    may_retry: bool = False


def subjects() -> Iterator[Subject]:
    """All of them: endpoints, administration, audit, and the feeds."""
    yield from _endpoints()
    for name, operation in operations.OPERATIONS.items():
        types = operation.request, operation.reply
        summary = _summary(operation.handle)
        yield Subject(f"admin.{name}", f"admin.{TENANT}.{name}", summary, "admin", *types)
    for name, query in QUERIES.items():
        yield _query(name, _summary(query.answer), query.request)
    yield _query("position", "How far the read model is behind the log.", AuditRequest)
    yield _query("what_if", _summary(WhatIfRequest), WhatIfRequest, Findings)
    yield from _feeds()


def _endpoints() -> Iterator[Subject]:
    for row in endpoints().values():
        if row.proved_by in TAGS:
            address = row.subject.replace("*", TENANT, 1).replace("*", CLIENT)
            tag, summary, retried = TAGS[row.proved_by], _summary(row.handle), row.endpoint == "token"
            yield Subject(row.name, address, summary, tag, row.request, row.reply, may_retry=retried)


def _query(name: str, summary: str, request: Any, reply: Any = None) -> Subject:
    return Subject(f"audit.{name}", f"audit.{TENANT}.{name}", summary, "audit", request, reply)


def _feeds() -> Iterator[Subject]:
    family = FamilyEnded(seq=0, at=0, reason="request", family_id=FAMILY, until=0)
    client = ClientVoided(seq=0, at=0, client_id=CLIENT, until=0)
    key = KeyChanged(seq=0, at=0, kid="", status="next", jwk={})
    for name, entry, kinds in (
        ("family", family, FamilyEnded | TokenEnded),
        ("client", client, ClientVoided),
        ("key", key, KeyChanged),
    ):
        yield _feed(name, entry.subject(TENANT), _summary(type(entry)), kinds)
    yield _feed("heartbeat", heartbeat_on(TENANT), _summary(Heartbeat), Heartbeat)
    revoked = aggregate_names.family(TENANT, FAMILY).revoked
    yield _feed("commit", revoked, "A commit that revokes, once it is stored: section 6 of the contract describes it.")


def _feed(name: str, address: str, summary: str, message: Any = None) -> Subject:
    return Subject(f"feed.{name}", address, summary, "feed", message, is_answered=False)


def _summary(described: Callable[..., Any]) -> str:
    """What its docstring begins with, up to the errors of the Python function."""
    return (inspect.getdoc(described) or "").partition("\n\n")[0].replace("\n", " ").partition(" Raises ")[0]
