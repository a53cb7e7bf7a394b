"""What an audit query is: a request type, and a function that answers a request from the read model."""

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from projections.queries.requests import AuditRequest, PageRequest, QueryRefused, UnknownTenant
from projections.tables import families, tenants

R = TypeVar("R", bound=AuditRequest)

Answer: TypeAlias = dict[str, Any]


class QueryContext(NamedTuple):
    """What a query reads: the read model `db` for one `tenant`, at the time `now` (microseconds since 1970)."""

    db: sqlite3.Connection
    tenant: str
    now: int


def known_family(context: QueryContext, family_id: str) -> dict[str, Any]:
    """The family as it stands now. Raises `QueryRefused` where the tenant has none with that id."""
    family = families.find(context.db, context.tenant, family_id, context.now)
    if family is None:
        raise QueryRefused("invalid_request", "there is no such family")
    return family


class Query(NamedTuple):
    """One audit query, made by `query`. `answer` may raise `QueryRefused` and `BadCursor`."""

    request: type[AuditRequest]
    answer: Callable[[QueryContext, Any], Answer]

    def encoded(self, context: QueryContext, request: AuditRequest, max_bytes: int) -> bytes:
        """The answer in JSON, read at one moment; a page has as many items as fit into `max_bytes`, but at least one.

        Only a page can be made smaller: any other answer, and a page of one item, may be longer. Raises `UnknownTenant`
        and what `answer` raises.
        """
        context.db.execute("BEGIN")
        try:
            if not tenants.is_known(context.db, context.tenant):
                raise UnknownTenant
            while True:
                encoded = msgspec.json.encode(self.answer(context, request))
                if len(encoded) <= max_bytes or not isinstance(request, PageRequest) or request.limit == 1:
                    return encoded
                limit = max(request.limit * max_bytes // (len(encoded) * 2), 1)
                request = msgspec.structs.replace(request, limit=limit)
        finally:
            context.db.execute("ROLLBACK")


def query(request: type[R], answer: Callable[[QueryContext, R], Answer]) -> Query:
    """The query that answers requests of this type by this function."""
    return Query(request, answer)
