"""The parameters that several operations have: a person, a client, a reason."""

from events.aggregates import aggregate_names
from service.context import AdminContext
from service.endpoints.end_user import MAX_SUB_CHARACTERS
from service.errors import OAuthError
from service.request import at_most, required

MAX_REASON_CHARACTERS = 500
"""Of a `reason` in an operator's own words."""


def sub_of(given: str | None) -> str:
    """The person's `sub`. Raises `invalid_request` if it is missing, or longer than `MAX_SUB_CHARACTERS`."""
    return required(at_most(given, MAX_SUB_CHARACTERS, "sub"), "sub")


def reason_of(given: str | None) -> str | None:
    """The operator's `reason`. Raises `invalid_request` if it is longer than `MAX_REASON_CHARACTERS`."""
    return at_most(given, MAX_REASON_CHARACTERS, "reason")


async def known_tenant(context: AdminContext, tenant: str) -> None:
    """Raise `invalid_request` if there is no such tenant."""
    if await context.registry.tenant(tenant) is None:
        raise OAuthError("invalid_request", "there is no such tenant")


async def known_client(context: AdminContext, tenant: str, client_id: str) -> None:
    """Raise `invalid_request` if there is no such tenant or client."""
    found = await context.registry.tenant(tenant)
    if found is None:
        raise OAuthError("invalid_request", "there is no such tenant")
    if not aggregate_names.CLIENT_ID.fullmatch(client_id) or await context.registry.client(found, client_id) is None:
        raise OAuthError("invalid_request", "there is no such client")
