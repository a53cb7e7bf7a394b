"""`admin._.log.close`: the log's open book is closed, and the next one begins (ADR 43)."""

import msgspec

from events.aggregates.aggregate_names import NO_TENANT
from service.admin import replies
from service.context import AdminContext
from service.errors import OAuthError
from service.registry.change_aggregate import ACTOR
from service.request import decode


class LogCloseRequest(msgspec.Struct, frozen=True):
    """There is nothing to say about it."""


_decoder = msgspec.json.Decoder(LogCloseRequest)


async def close(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{book, seq}` of the book that is open then: its number and its first sequence. The tenant's name is `_`.

    The log is not one tenant's, so only who administers them all may close its book. Raises `invalid_request`, and
    `Unavailable` if it takes long; then it is completed later.
    """
    decode(body, _decoder)
    if tenant != NO_TENANT:
        raise OAuthError("invalid_request", f"the log is of all tenants: order this on admin.{NO_TENANT}.log.close")
    opened = await context.books.close(ACTOR)
    return msgspec.json.encode(replies.BookOpened(opened.number, opened.first))
