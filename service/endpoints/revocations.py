"""`revocations`: what a resource server has missed of the revocation feed, and the tenant's keys (CONTRACT §8)."""

from typing import Annotated, Any

import msgspec

from service.context import Context
from service.endpoints.discovery import jwks_of
from service.errors import OAuthError
from service.request import Request, parameters_of


class RevocationsRequest(msgspec.Struct, frozen=True):
    """`after`: the number of the last entry that is known, of the feed called `feed`."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    feed: Annotated[str, msgspec.Meta(max_length=64)] | None = None


_decoder = msgspec.json.Decoder(RevocationsRequest)


async def handle(context: Context, request: Request) -> bytes:
    """A page of the tenant's entries (`service.revocations.pages`); the last one with the keys and the issuer.

    Raises `invalid_request`, and `Unavailable`.
    """
    parameters = parameters_of(request, _decoder)
    tenant = await context.registry.tenant(request.tenant)
    if tenant is None:
        raise OAuthError("invalid_request", "there is no such tenant")
    page = await context.revocations.page(tenant.name, parameters.after, parameters.feed or "")
    answer: dict[str, Any] = page._asdict()
    if not page.more:
        await context.registry.wait_for_keys(tenant.name)  # after the page: each key that its entries name is known
        answer |= {"issuer": tenant.issuer, **jwks_of(tenant)}
    return msgspec.json.encode(answer)
