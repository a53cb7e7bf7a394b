"""The table of endpoints: a row each, with its subject and how its client is proved (CONTRACT §2)."""

from typing import TypeAlias

import msgspec

from service.access_tokens.token_response import TokenResponse
from service.endpoints import authorize, device_authorization, discovery, introspect, issue, revocations, revoke, token
from service.endpoints.grants.token_request import TokenRequest
from service.received_request import Endpoint, Row
from service.registry.broker_accounts import PERSONS_ENDPOINTS

Types: TypeAlias = tuple[type[msgspec.Struct], type[msgspec.Struct]]
"""Of the parameters, and of the reply."""


def _of_client(name: str, handle: Endpoint, types: Types, *, read_only: bool = False) -> Row:
    return Row(name, name, f"oauth.*.client.*.{name}", handle, "subject", read_only, *types)


def _public(name: str, handle: Endpoint) -> Row:
    return Row(name, name, f"oauth.*.public.{name}", handle, "nobody", read_only=True)


ENDPOINTS: dict[str, Row] = {
    row.name: row
    for row in (
        _of_client("token", token.handle, (TokenRequest, TokenResponse)),
        _of_client("issue", issue.handle, (issue.IssueRequest, TokenResponse)),
        _of_client("authorize", authorize.handle, (authorize.AuthorizeRequest, authorize.AuthorizeResponse)),
        _of_client(
            "device_authorization",
            device_authorization.handle,
            (device_authorization.DeviceAuthorizationRequest, device_authorization.DeviceAuthorizationResponse),
        ),
        _of_client("revoke", revoke.handle, (revoke.RevokeRequest, revoke.RevokeResponse)),
        _of_client(
            "introspect", introspect.handle, (introspect.IntrospectRequest, introspect.Introspection), read_only=True
        ),
        _public("jwks", discovery.jwks),
        _public("metadata", discovery.metadata),
        _public("asyncapi", discovery.asyncapi),
        Row(
            "revocations",
            "revocations",
            "oauth.*.resource.revocations",
            revocations.handle,
            "role",
            read_only=True,
            request=revocations.RevocationsRequest,
        ),
    )
}


def endpoints() -> dict[str, Row]:
    """All rows by name: the table, each endpoint of a client once more for the edge, and `PERSONS_ENDPOINTS`."""
    edge = [_at_edge(row) for row in ENDPOINTS.values() if row.proved_by == "subject"]
    persons = [ENDPOINTS[name]._replace(name=f"person-{name}", proved_by="person") for name in PERSONS_ENDPOINTS]
    return ENDPOINTS | {row.name: row for row in (*edge, *persons)}


def _at_edge(row: Row) -> Row:
    subject = f"oauth.*.edge.{row.endpoint}"
    return row._replace(name=f"edge-{row.endpoint}", subject=subject, proved_by="request")
