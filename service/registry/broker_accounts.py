"""The broker's accounts of callers (ADR 0036): their names, and what a person's connection may request.

What their members may publish and subscribe to stands in `heirloom.broker.roles`.
"""

from events.aggregates.role import RoleKind

CLIENTS_ACCOUNT = "USERS"
"""Registered clients, each with a user JWT that the service signs. A user's name there begins `<tenant>/`."""
PERSONS_ACCOUNT = "PERSONS"
"""Callers that connect with a person's access token, also with a signed user JWT, and users named likewise."""
ROLE_ACCOUNTS: dict[RoleKind, str] = {
    "operator": "OPERATORS",
    "auditor": "AUDITORS",
    "edge": "EDGES",
    "resource": "RESOURCES",
}
"""Each role's account, also for its named roles."""
PERSONS_ENDPOINTS = ("introspect", "revoke")
"""The endpoints for connections that a person's token has opened. Every other one is refused to them."""
